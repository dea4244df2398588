"Whatever is wrong with the input: a typed error, one line, that names row, value or remedy, and nothing left half-written."
import math
import os
import re
import stat

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lgdcnn import InputError, LGDCNNClassifier, LGDCNNRegressor
from lgdcnn.cli import main
from lgdcnn.composition import SYMBOLS, FormulaError, featurize, parse_formula
from lgdcnn.config import MODELS

TINY = {"architecture": MODELS["l-g-dcnn"].replace(d_model=8, conv_width=8, n_units=1), "epochs": 1, "verbose": False, "device": "cpu"}
NAN, INF = math.nan, math.inf
FOUR, Y = ["NaCl", "KCl", "LiF", "MgO"], [1.0, 2.0, 3.0, 4.0]


def fit(formulas=FOUR, y=Y, cls=LGDCNNRegressor, options=(), **more):
    return lambda folder: cls(**{**TINY, **dict(options)}).fit(formulas, y, **more)


def formula(text): return lambda folder: featurize(["NaCl", text])


def table(content, *args, name="t.csv", command="train"):
    "Run a command on a table of this content; its refusal is raised again as an `InputError`."
    def run(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        words = {"train": ["--target", "gap", *([] if "--out" in args else ["--out", str(folder / "m")])], "predict": []}[command]
        lead = [command, str(folder / name)] if command == "train" else [command, str(MODEL[0]), "--csv", str(folder / name)]
        r = CliRunner().invoke(main, [*lead, *words, *(a.replace("{d}", str(folder)) for a in args)])
        assert (r.exit_code, r.stdout) == (2, ""), (r.exit_code, r.stdout, r.stderr)
        assert len(r.stderr.splitlines()) == 1, r.stderr
        (folder / name).unlink()
        raise InputError(r.stderr.strip())
    return run


MODEL = []  # the path of a trained model, filled by the fixture below


@pytest.fixture(scope="module", autouse=True)
def _trained(tmp_path_factory, fitted):
    MODEL[:] = [fitted.save(tmp_path_factory.mktemp("model") / "m.lgdcnn")]


# what is wrong, how it comes in, and words the refusal must hold
CASES = {f"formula {text!r}"[:40]: (formula(text), words) for text, words in {
    "": "row 1: cannot read formula '': the formula is empty", " ": "the formula is empty", "\t": "the formula is empty",
    "fe2o3": "unexpected character 'f'", "FE2O3": "'E' is not an element|not an element", "Xx2O": "'Xx' is not an element",
    "J2": "'J' is not an element", "Uue": "not an element", "D2O": "write H for its isotopes", "T2O": "write H for its isotopes",
    "Fe-1O": "amounts cannot be negative", "Fe2O-3": "amounts cannot be negative", "Na+": "charges are not part",
    "SO4-2": "amounts cannot be negative", "Fe3+": "charges are not part", "Fe0": "the amount is zero", "Fe0O3": "the amount is zero",
    "Fe0.00": "the amount is zero", "Fe2O3)": "'\\)' closes no bracket", "(Fe2O3": "never closed", "[Fe}2": "closes no bracket",
    "Fe()": "the bracket is empty", "(((Fe))": "never closed", "2H2O": "follows no element", "42": "follows no element",
    ".5": "follows no element", "Fe1.2.3": "follows no element", "Fe..5": "unexpected character", "CuSO4.5H2O": "write a bracket",
    "Fe2O3,": "unexpected character ','", "Fe2O3;": "unexpected character ';'",
    "Fe_2O_3": "unexpected character '_'", "Fe2O3 (hematite)": "unexpected character 'h'",
    "F​e": "unexpected character", "Ｆe": "unexpected character", "Fe²": "charges", "氧化铁": "unexpected character",
    "Fe\nO": "unexpected character", "Fe\x00": "unexpected character", "Fe1e999": "out of range", "Fe1e-99": "out of range",
    "Fe" + "9" * 40: "out of range", "H٣": "unexpected character", "=1+1": "unexpected character '='", "'Fe": "unexpected character",
    "#N/A": "unexpected character '#'", "nan": "unexpected character 'n'", "None": "not an element|unexpected",
    "mp-1234": "unexpected character 'm'", "Fe-O": "with brackets", "Fe/O": "with brackets", "Fe:O": "unexpected character",
    "Fe2O3|": "unexpected character", "Li1-xCoO2": "put a number for x", "LixCoO2": "not an element|unexpected", "Fe$2$": "unexpected",
    "<b>Fe</b>": "unexpected character '<'", "iron": "unexpected character 'i'", "CO2H5OHx": "unexpected character 'x'|not an element",
}.items()}
CASES |= {f"no text: {value!r}": (formula(value), "row 1: .*expected a string") for value in (
    None, NAN, 3, 3.5, True, b"Fe", ["Fe"], ("Fe",), pd.NA, pd.NaT, np.float64(1), object)}
CASES |= {
    "no formulas": (fit([], []), "no formulas"), "a table of formulas": (fit(pd.DataFrame({"f": FOUR}), Y), "one column, not a table"),
    "too few targets": (fit(FOUR, Y[:3]), "4 formulas but 3 targets"), "too many targets": (fit(FOUR, [*Y, 5]), "4 formulas but 5 targets"),
    "too many held out": (fit(validation=0.99), "4 different compositions are too few|hold out"),
}
CASES |= {f"target {bad!r}": (fit(FOUR, [1.0, 2.0, bad, 4.0]), "row 2: the target is .*not a finite number: mend or drop") for bad in (
    None, NAN, INF, -INF, "n/a", "", "1,5", "1.5 eV", "~3", "1.2(3)", "abc", pd.NA, 1 + 2j, [1], {}, "0x1F", b"x", "½", np.datetime64("NaT"))}
CASES |= {f"targets {name}": (fit(FOUR, y), words) for name, (y, words) in {
    "infinite in a table": ([[1, 2], [1, INF], [1, 2], [1, 2]], "row 1: target 1 is inf"),
    "text in a table": ([[1, 2], [1, "x"], [1, 2], [1, 2]], "row 1: target 1 is 'x'"),
    "named in a table": (pd.DataFrame({"gap": Y, "bulk": [1, 2, "?", 4]}), "row 2: bulk is '\\?'"),
    "ragged": ([[1, 2], [1], [1, 2], [1, 2]], "the same columns in each row"), "an empty row": ([[1, 2], [NAN, NAN], [1, 2], [1, 2]], "row 1 has no target"),
    "an empty column": ([[1, NAN]] * 4, "'target 1' has no target"), "no columns": (np.zeros((4, 0)), "the same columns"),
    "short table": ([[1, 2]] * 3, "4 formulas but 3 rows of targets"), "huge": ([1e308, -1e308, 1e308, -1e308], "too large to be standardised"),
    "a cube": (np.zeros((4, 1, 1)), "one number for each formula|the same columns"),
}.items()}
CASES |= {f"weight {bad!r}": (fit(sample_weight=bad), words) for bad, words in (
    ([1, 1, 1], "4 formulas but 3 weights"), ([1, -1, 1, 1], "row 1: the weight -1 is negative"), ([0, 0, 0, 0], "all weights are zero"))}
CASES |= {"weight nan": (fit(sample_weight=[1, NAN, 1, 1]), "row 1: the weight is .*nan"), "weight inf": (fit(sample_weight=[1, INF, 1, 1]), "row 1: the weight"),
          "weight text": (fit(sample_weight=["a"] * 4), "row 0: the weight is 'a'|row 0")}
CASES |= {f"validation {bad!r}"[:40]: (fit(validation=bad), words) for bad, words in (
    (1, "must be a fraction"), (-0.1, "must be a fraction"), (NAN, "must be a fraction"), ("x", "must be a fraction"), (True, "must be a fraction"),
    ((["Fe"],), "must be a pair"), ((["Fe"], [1, 2]), "1 formulas but 2 targets"), ((["Fex"], [1]), "row 0: cannot read formula 'Fex'"),
    ((["Fe"], [NAN]), "row 0: the target is nan"), (([], []), "no formulas"), ((["Fe"], [[1, 2]]), "validation has 2 targets, training 1"))}
CASES |= {f"option {k}={v!r}": (fit(options={k: v}), words) for k, v, words in (
    ("device", "warp", "warp"), ("device", "cuda:99", "cuda:99"), ("device", "", "device"), ("epochs", 0, "epochs = 0"), ("epochs", -1, "epochs = -1"),
    ("epochs", 2.5, "epochs = 2.5"), ("epochs", "3", "epochs = '3'"), ("n_models", 0, "n_models = 0"), ("n_models", "2", "n_models = '2'"),
    ("n_models", True, "n_models = True"), ("seed", -1, "seed = -1"), ("seed", 0.5, "seed = 0.5"), ("seed", None, "seed = None"),
    ("precision", "fp8", "fp8"), ("architecture", "l-g-dnn", "did you mean 'l-g-dcnn'"), ("architecture", None, "unknown architecture None"),
    ("protocol", "fats", "did you mean 'fast'"), ("protocol", 3, "unknown protocol 3"))}
CASES |= {f"labels {name}": (fit(FOUR, y, LGDCNNClassifier), words) for name, (y, words) in {
    "missing": (["a", None, "b", "a"], "row 1: the label is missing"), "nan": ([0, 1, NAN, 1], "row 2: the label is missing"),
    "one class": (["a"] * 4, "only one class, 'a'"), "mixed": (["a", 1, "b", 2], "different kinds"), "continuous": ([0.1, 0.2, 0.3, 0.4], "continuous"),
    "short": (["a", "b"], "4 formulas but 2 labels"), "a table": ([["a", "b"]] * 4, "one for each formula"), "none": ([], "4 formulas but 0 labels"),
}.items()}
CASES |= {f"start from {bad!r}"[:40]: (fit(init_from=bad), words) for bad, words in (
    (3, "init_from must be a trained model"), ("none.lgdcnn", "there is no model file"), (LGDCNNRegressor(), "not trained"))}
CASES |= {f"table {name}": (table(content, *args), words) for name, (content, words, *args) in {
    "empty": ("", "is empty"), "only a header": ("formula,gap\n", "no formulas were given"), "only blanks": ("  \n \n", "no formula column|is empty"),
    "without formula": ("name,gap\nFe,1\n", "no formula column 'formula': its columns are 'name', 'gap' .see --formula."),
    "without target": ("formula,bandgap\nFe,1\n", "no target column 'gap': its columns are 'formula', 'bandgap'"),
    "two like formulas": ("Formula,composition,gap\nFe,Fe,1\n", "several columns could hold the formulas"), "unclear separators": ("formula;a,gap\nFe;1,2\n", "say which with --separator"),
    "no header": ("Fe,1\nNi,2\n", "no formula column"), "empty cell": ("formula,gap\nFe,\nNi,1\n", "row 0: the target is ''"),
    "decimal comma": ('formula,gap\nFe,"1,5"\nNi,1\n', "row 0: the target is '1,5'"), "unit": ("formula,gap\nFe,1 eV\n", "row 0: the target is '1 eV'"),
    "nan": ("formula,gap\nFe,NaN\nNi,1\n", "row 0: the target is 'NaN'"), "inf": ("formula,gap\nFe,inf\nNi,1\n", "row 0: the target is 'inf'"),
    "too large": ("formula,gap\nFe,1e400\nNi,1\n", "row 0: the target is '1e400'"), "latin-1": ("formula,gap\nFeé,1\n".encode("latin-1"), "cannot be read as a table"),
    "utf-16": ("formula,gap\nFe,1\n".encode("utf-16"), "cannot be read as a table"), "binary": (bytes(range(256)), "cannot be read|no formula column"),
    "zeros": (bytes(100), "cannot be read|no formula column|is empty"), "ragged": ("formula,gap\nFe,1\nNi,1,2,3\n", "cannot be read as a table"),
    "open quote": ('formula,gap\n"Fe,1\n', "cannot be read as a table|row 0|no target|EOF"), "empty formula": ("formula,gap\nFe,1\n,2\n", "row 1: cannot read formula ''"),
    "bad formula": ("formula,gap\nFe,1\nFe2O3x,2\n", "row 1: cannot read formula 'Fe2O3x'"), "formula of Excel": ("formula,gap\n=A1,2\n", "row 0: cannot read formula '=A1'"),
    "no folder": ("formula,gap\nFe,1\n", "there is no folder", "--out", "{d}/no/m"), "out a folder": ("formula,gap\nFe,1\n", "is a folder", "--out", "{d}"),
    "wrong device": ("formula,gap\nFe,1\nNi,2\n", "warp", "--device", "warp"), "one class": ("formula,gap\nFe,1\nNi,1\n", "only one class", "--task", "classification"),
    "missing label": ("formula,gap\nFe,a\nNi,\n", "row 1: the label is missing", "--task", "classification"),
}.items()}
CASES |= {f"file {name}": (table(content, name=name), words) for name, (content, words) in {
    "t.xlsx": (b"PK\x03\x04", "cannot be read as a table: it is no spreadsheet, or damaged"), "t.parquet": (b"PAR1 not really", "cannot be read as a table"),
    "t.csv.gz": (b"\x1f\x8bno", "cannot be read as a table"), "cut.csv.gz": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "cannot be read as a table|is empty"),
}.items()}
CASES |= {f"predict {name}": (table(content, *args, command="predict"), words) for name, (content, words, *args) in {
    "empty": ("", "is empty"), "no rows": ("formula\n", "has no rows"), "no column": ("f\nFe\n", "no formula column 'formula'"),
    "bad row": ("formula\nFe\nFe0\n", "row 1: .*zero"), "bad row far down": ("formula\n" + "Fe\n" * 9 + "X\n", "row 9: ", "--chunk", "2", "--out", "{d}/o.csv"),
    "ragged far down": ("formula\n" + "Fe\n" * 9 + "Fe,Fe\n", "cannot be read as a table", "--chunk", "2", "--out", "{d}/o.csv"),
    "taken column": ("formula,lower\nFe,1\n", "has a column 'lower' already"), "chunk": ("formula\nFe\n", "--chunk 0", "--chunk", "0"),
    "coverage": ("formula\nFe\n", "between 0 and 1", "--coverage", "90"), "parquet out": ("formula\nFe\n", "as CSV or JSON", "--out", "{d}/o.parquet"),
    "out folder": ("formula\nFe\n", "there is no folder", "--out", "{d}/no/o.csv"), "format": ("formula\nFe\n", "'xml' is not one of", "--format", "xml"),
}.items()}


def test_there_are_many_cases():
    assert len(CASES) >= 150


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_line_and_leaves_nothing(case, tmp_path):
    call, words = CASES[case]
    with pytest.raises(InputError, match=words) as e: call(tmp_path)
    text = str(e.value)
    assert "\n" not in text and len(text) < 700, text
    assert list(tmp_path.iterdir()) == [], "something was left behind"


FINE = ["AlCoCrCuFeNiMnTiVZrNbMoHfTaWReOsIrPtAu", "NaN", "Fe2O3", " Fe2O3 ", "Fe 2 O 3", "Ba0.5K0.5Fe2As2", "Ca3(PO4)2", "[Fe(CN)6]4", "H" * 500, "Og", "C1e3H2e3"]


@pytest.mark.parametrize("text", FINE, ids=[t[:20] for t in FINE])
def test_what_looks_odd_and_is_fine(text, fitted):
    assert np.isfinite(fitted.predict([text])).all()


def test_folders_that_cannot_be_written(tmp_path, fitted, monkeypatch):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(tmp_path, os.W_OK): monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    with pytest.raises(InputError, match="cannot be written to"): fitted.save(tmp_path / "m")
    r = CliRunner().invoke(main, ["predict", str(MODEL[0]), "Fe", "--out", str(tmp_path / "o.csv")])
    assert r.exit_code == 2 and "cannot be written to" in r.stderr
    tmp_path.chmod(stat.S_IRWXU)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path, fitted, monkeypatch):
    from pathlib import Path
    (tmp_path / "m").write_text("old")
    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device.*choose another place"): fitted.save(tmp_path / "m")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("m", "old")]


# The parser against pymatgen's. On a million random strings (571,153 read alike, 397,619 refused by both) they differed so:
# - an unknown symbol (J, Xx) is a dummy species there and refused here: a network knows no such element;
# - D and T are hydrogen there and refused here, with "write H": silently another mass would be guessing;
# - an amount of zero, or below 1e-30, drops the element there and is refused here: it is a slip more often than a wish;
# - brackets may be of different kinds or hold nothing but a blank there; here they must match and hold something;
# - an exponent after a bracket, or an amount in a bracket beyond 1e15, is read here and refused there (2 strings), and amounts
#   of the order 1e-29 are kept here and dropped there (5 strings).
# Never did both read a string of sane amounts and find different compositions.

pieces = st.one_of(st.sampled_from(SYMBOLS[1:]), st.sampled_from(["(", ")", "[", "]", "{", "}"]),
                   st.sampled_from(["", "2", "3", "10", "0.5", ".25", "1.0", "2.", "1e2"]), st.sampled_from(["-", "+", " ", "x", "*", "e"]))


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(pieces, min_size=1, max_size=9).map("".join), st.text(max_size=8)))
def test_what_is_read_is_what_pymatgen_reads(text):
    from pymatgen.core import Composition
    try: ours = parse_formula(text)
    except FormulaError: return
    assume(not set("·*") & set(text))  # hydrates, which pymatgen refuses
    assume("\xad" not in text)  # a soft hyphen is no sign of a formula: we leave it out, pymatgen refuses it
    assume(max(ours.values()) < 1e15 and not re.search(r"[)\]}]\s*[\d.]+[eE]", text))  # see the last difference above
    theirs = Composition(text).get_el_amt_dict()
    assert ours.keys() == theirs.keys() and all(ours[s] == pytest.approx(theirs[s], rel=1e-9) for s in ours)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SYMBOLS[1:]), st.integers(1, 99)), min_size=1, max_size=6), st.sampled_from(["()", "[]", "{}"]))
def test_what_pymatgen_reads_of_real_elements_is_read(parts, bracket):
    from pymatgen.core import Composition
    text = "".join(f"{bracket[0]}{s}{n}{bracket[1]}2" for s, n in parts)
    assert parse_formula(text) == Composition(text).get_el_amt_dict()
