"What people have is read as they mean it, or refused in one line: outputs, pipes, separators, widths, lines, lengths, threads."
import bz2
import gzip
import io
import json
import lzma
import os
import re
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from lgdcnn import InputError, LGDCNNClassifier, LGDCNNRegressor
from lgdcnn.cli import main
from lgdcnn.config import MODELS, check_output, write_atomic
from lgdcnn.data.datasets import from_frame
from lgdcnn.data.reading import TableReader
from lgdcnn.data.tables import read_chunks, read_table
from lgdcnn.trust.applicability import Applicability

TINY = {"architecture": MODELS["l-g-dcnn"].replace(d_model=8, conv_width=8, n_units=1), "epochs": 1, "verbose": False, "device": "cpu"}
QUICK = ["--architecture", "dcnn-k1", "--epochs", "1", "--quiet"]
ROWS = [f"{a}{b}" for a in ("Na", "K", "Rb", "Li", "Cs") for b in ("Cl", "F", "Br", "I", "H")]


def run(*args, stdin=None):
    r = CliRunner().invoke(main, [str(a) for a in args], input=stdin)
    return r.exit_code, r.stdout, r.stderr


def shell(command, folder, **more):
    "Run a line of bash with the installed command."
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, timeout=120, **more)


@pytest.fixture(scope="module")
def model(tmp_path_factory, fitted):
    return fitted.save(tmp_path_factory.mktemp("model") / "m.lgdcnn")


@pytest.fixture
def table(tmp_path):
    (tmp_path / "d.csv").write_text("formula,y\n" + "".join(f"{f},{i}.5\n" for i, f in enumerate(ROWS)))
    return tmp_path / "d.csv"


# outputs

@pytest.mark.parametrize("name", ["same", "link", "hard link", "dots"])
def test_an_output_that_is_an_input_is_refused(name, model, table, tmp_path):
    own = tmp_path / "m.lgdcnn"
    own.write_bytes(model.read_bytes())
    (tmp_path / "p.png").write_text("prediction\n1\n")
    for source, command in ((table, ["train", table, "--target", "y"]), (own, ["predict", own, "NaCl"]), (table, ["predict", own, "--csv", table]),
                            (table, ["predict", own, "NaCl", "--check", table]), (tmp_path / "p.png", ["plot", tmp_path / "p.png"])):
        other = {"same": source, "link": tmp_path / "link", "hard link": tmp_path / "hard", "dots": Path(f"{tmp_path}/./../{tmp_path.name}/{source.name}")}[name]
        if name == "link": other.symlink_to(source)
        if name == "hard link": os.link(source, other)
        before, data = sorted(tmp_path.iterdir()), source.read_bytes()
        code, out, err = run(*command, "--out", other)
        assert (code, out, len(err.splitlines())) == (2, "", 1) and "would be overwritten" in err
        assert source.read_bytes() == data and sorted(tmp_path.iterdir()) == before
        if other != source and name != "dots": other.unlink()


def test_a_link_stays_a_link_and_its_target_is_written(model, tmp_path):
    (tmp_path / "folder").mkdir()
    for target in ("there.csv", "folder/new.csv"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        if target == "there.csv": (tmp_path / target).write_text("old")
        assert run("predict", model, "NaCl", "--out", tmp_path / "link", "--coverage", 0.5)[0] == 0
        assert (tmp_path / "link").is_symlink() and (tmp_path / target).read_text().startswith("formula,")
    assert not list(tmp_path.rglob(".*"))


def test_a_pipe_and_a_device_are_written_in_place(model, fitted, tmp_path):
    os.mkfifo(tmp_path / "p")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "p").read_text()))
    reader.start()
    code, out, err = run("predict", model, "NaCl", "--out", tmp_path / "p", "--coverage", 0.5)
    reader.join(20)
    assert code == 0 and found[0].startswith("formula,prediction") and (tmp_path / "p").is_fifo()
    assert run("predict", model, "NaCl", "--out", "/dev/null", "--coverage", 0.5)[0] == 0 and Path("/dev/null").is_char_device()
    fitted.save("/dev/null")
    assert [f.name for f in tmp_path.iterdir()] == ["p"]


def test_the_next_writer_sweeps_what_a_killed_one_left(tmp_path):
    code = f"import os, signal; from lgdcnn.config import atomic_part\nwith atomic_part({str(tmp_path / 'o[1].csv')!r}) as p: p.write_text('half'); print(p, flush=True); input()"
    p = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    part = Path(p.stdout.readline().strip())
    write_atomic(tmp_path / "o[1].csv", "whole")
    assert part.exists(), "a living writer's part was taken away"
    p.kill()
    p.wait()
    (tmp_path / ".other.csv.1.0.part").write_text("not ours")
    write_atomic(tmp_path / "o[1].csv", "again")
    assert sorted(f.name for f in tmp_path.iterdir()) == [".other.csv.1.0.part", "o[1].csv"] and (tmp_path / "o[1].csv").read_text() == "again"


def test_many_threads_save_to_one_path(fitted, tmp_path):
    with ThreadPoolExecutor(8) as pool: list(pool.map(lambda _: fitted.save(tmp_path / "m"), range(24)))
    assert [f.name for f in tmp_path.iterdir()] == ["m"]
    assert np.array_equal(LGDCNNRegressor.load(tmp_path / "m").predict(["NaCl"]), fitted.predict(["NaCl"]))


def test_a_file_keeps_its_permissions(tmp_path):
    write_atomic(tmp_path / "f", "a")
    (tmp_path / "f").chmod(0o600)
    write_atomic(tmp_path / "f", "b")
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="is a folder"): check_output(tmp_path)


def test_lines_are_counted_from_the_top_of_the_file():
    "Blank lines above the header count: an editor counts them too."
    with pytest.raises(InputError, match="line 4 has 3 fields, the header 2"): TableReader(io.BytesIO(b"\n\nformula,gap\nFe,1,2\n")).table()
    reader = TableReader(io.BytesIO(b"\n \nformula;gap\nFe;1\n\nNi;2\n"))
    assert reader.table()["formula"].tolist() == ["Fe", "Ni"] and reader.lines.tolist() == [4, 6]


# standard input and output

def test_dash_is_standard_input_and_output(model, table, tmp_path):
    shell_out = shell(f"cat d.csv | lgdcnn predict {model} --csv - --out - --coverage 0.5 --quiet > o.csv", tmp_path)
    assert shell_out.returncode == 0, shell_out.stderr
    assert pd.read_csv(tmp_path / "o.csv")["formula"].tolist() == ROWS and not (tmp_path / "-").exists()
    code, out, err = run("predict", model, "--csv", "-", "--format", "csv", "--coverage", 0.5, stdin="formula\nNaCl\nNaN\n")
    assert code == 0 and out.splitlines()[2].startswith("NaN,")
    made = shell("lgdcnn train - --target y --out - --architecture dcnn-k1 --epochs 1 --quiet < d.csv > m2; "
                 "lgdcnn predict - NaCl --coverage 0.5 --format json < m2", tmp_path)
    assert json.loads(made.stdout)[0]["formula"] == "NaCl" and b"validation MAE" in made.stderr
    code, out, err = run("predict", "-", "--csv", "-")
    assert (code, out) == (2, "") and "can be read once" in err
    drawn = shell("printf 'prediction\n1\n2\n' | lgdcnn plot - --out - | head -c 4", tmp_path)
    assert drawn.stdout == b"\x89PNG"


def test_a_reader_that_has_enough_ends_it_quietly(model, tmp_path):
    (tmp_path / "t.csv").write_text("formula\n" + "NaCl\n" * 20_000)
    r = shell(f"set -o pipefail; lgdcnn predict {model} --csv t.csv --format csv --chunk 500 --coverage 0.5 --quiet | head -1", tmp_path)
    assert (r.returncode, r.stderr, r.stdout[:8]) == (0, b"", b"formula,")


def test_a_pipe_is_a_table(model, table, tmp_path):
    r = shell(f"lgdcnn predict {model} --csv <(cat d.csv) --coverage 0.5 --format csv --quiet", tmp_path)
    assert r.returncode == 0 and len(r.stdout.splitlines()) == 26, r.stderr


# separators, spreadsheets, columns

@pytest.mark.parametrize("name, text, options", [
    ("t.csv", "formula;y\n{0};{1},5\n", ()), ("t.tsv", "formula\ty\n{0}\t{1}.5\n", ()), ("t.txt", "formula\ty\n{0}\t{1},5\n", ()), ("t.csv", "formula|y\n{0}|{1}.5\n", ()),
    ("t.csv", "Formula;gap, eV;y\n{0};a,b;{1},5\n", ()), ("t.csv", "pretty_formula,y\n{0},{1}.5\n", ()), ("t.csv", "id,Composition,y\n7,{0},{1}.5\n", ()),
    ("t.csv", 'formula,y\n{0},"{1},5"\n', ("--decimal", ",")), ("t.csv", "formula:y\n{0}:{1}.5\n", ("--separator", ":")), ("t.csv", "formula;y\n{0};{1}.5\n", ("--separator", "semicolon")),
    ("t.csv", "\ufeffformula,y\r\n{0},{1}.5\r\n", ()), ("t.csv", "formula,y\r{0},{1}.5\r", ()), ("t.csv", '"formula","y"\n"{0}","{1}.5"\n\n', ())])
def test_tables_as_people_have_them(name, text, options, tmp_path, model):
    head, row = text.splitlines(keepends=True)[:2]
    (tmp_path / name).write_text(head + "".join(row.format(f, i) for i, f in enumerate(ROWS)), newline="")
    code, out, err = run("train", tmp_path / name, "--target", "y", "--out", tmp_path / "m", *QUICK, *options)
    assert code == 0 and out.startswith("validation MAE"), err
    got = LGDCNNRegressor.load(tmp_path / "m")
    assert got.fingerprint_ == LGDCNNRegressor(**{**TINY}).fit(ROWS, [i + 0.5 for i in range(25)]).fingerprint_, "other numbers were learned"
    if options[:1] != ("--decimal",):
        code, out, err = run("predict", model, "--csv", tmp_path / name, "--format", "json", "--coverage", 0.5, *options)
        assert code == 0 and len(json.loads(out)) == 25, err


def test_numbers_that_could_be_thousands_are_asked_for(tmp_path):
    (tmp_path / "t.csv").write_text("formula;y\nNaCl;1,234\nKCl;2,345\n")
    code, out, err = run("train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", *QUICK)
    assert (code, out, len(err.splitlines())) == (2, "", 1) and "say --decimal" in err
    (tmp_path / "t.csv").write_text("formula;y\nNaCl;1,5\nKCl;2.345\n")
    code, out, err = run("train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", *QUICK)
    assert (code, out) == (2, "") and "row 0: the target is '1,5'" in err
    code, out, err = run("train", tmp_path / "t.csv", "--target", "y", "--decimal", ",", "--out", tmp_path / "m", *QUICK)
    assert (code, out) == (2, "") and "row 1: '2.345' has a point" in err


def test_spreadsheets(tmp_path, model):
    pytest.importorskip("openpyxl")
    pd.DataFrame({"Formula": [*ROWS, "NaN"], "y": range(26)}).to_excel(tmp_path / "t.xlsx", index=False)
    code, out, err = run("predict", model, "--csv", tmp_path / "t.xlsx", "--format", "json", "--coverage", 0.5)
    assert code == 0 and [r["Formula"] for r in json.loads(out)] == [*ROWS, "NaN"], err
    pd.DataFrame({"Formula": ["NaCl", "Q"], "y": [1, 2]}).to_excel(tmp_path / "t.xlsx", index=False)
    code, out, err = run("predict", model, "--csv", tmp_path / "t.xlsx")
    assert code == 2 and "(line 3)" in err


def test_a_spreadsheet_without_openpyxl(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="is a spreadsheet: save it as CSV, or install openpyxl"): read_table(tmp_path / "t.xlsx")


def test_messages_about_columns_are_short(tmp_path, model):
    names = [f"a_rather_long_name_of_a_descriptor_{i}" for i in range(152)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    for command in (["predict", model, "--csv", tmp_path / "t.csv"], ["train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m"],
                    ["train", tmp_path / "t.csv", "--out", tmp_path / "m"]):
        code, out, err = run(*command)
        assert (code, out) == (2, "") and len(err) < 700 and "and 144 more" in err
        assert "--formula" in err or "--target" in err


# widths, names, lines

WIDE = {"wider": ("formula,x\nFe2O3,NaCl,1\n", "line 2 has 3 fields, the header 2"), "wider below": ("formula,x\nFe,1\nNi,2\n\nFe2O3,NaCl,1\n", "line 5 has 3 fields"),
        "narrower": ("formula,x\nFe\n", "line 2 has 1 field, the header 2"), "a comma at the end": ("formula,x\nFe,1,\n", "line 2 has 3 fields"),
        "decimal commas": ("formula\nCu0,65Zn0,35\n", "line 2 has 3 fields"), "several": ("a,b\n1\n1,2\n1,2,3\n", "line 2 has 1 field, the header 2; line 4 has 3"),
        "same name": ("formula,x,x\nFe,1,2\n", "more than one column 'x'"), "same but for blanks": ("formula,x, x\nFe,1,2\n", "more than one column 'x'"),
        "no names": ("formula,,\nFe,,\n", "columns 2, 3 have no name"), "an open quotation mark": ('formula,x\n"Fe,1\nNi,2\n', "line 2 cannot be read"),
        "semicolons": ("formula;x\nFe;1;2\n", "line 2 has 3 fields")}


@pytest.mark.parametrize("case", WIDE)
def test_fields_are_counted_everywhere(case, tmp_path, model):
    text, words = WIDE[case]
    (tmp_path / "t.csv").write_text(text)
    for command in (["predict", model, "--csv", tmp_path / "t.csv"], ["train", tmp_path / "t.csv", "--target", "x", "--out", tmp_path / "m"],
                    ["plot", tmp_path / "t.csv", "--out", tmp_path / "p.png"], ["cecv", model, "--data", tmp_path / "t.csv"],
                    ["predict", model, "NaCl", "--check", tmp_path / "t.csv"]):
        code, out, err = run(*command)
        assert (code, out, len(err.splitlines())) == (2, "", 1) and words in err, (command[0], err)
    with pytest.raises(InputError, match=words): from_frame(tmp_path / "t.csv", target="x")
    assert [f.name for f in tmp_path.iterdir()] == ["t.csv"]


def test_bad_rows_are_named_with_their_lines(tmp_path, model):
    (tmp_path / "t.csv").write_text('formula,y\n"Fe2O3",1\n\nQ,2\n' + "NaCl,3\nX9,z\n" * 15)
    for chunk in ("20000", "4"):
        code, out, err = run("predict", model, "--csv", tmp_path / "t.csv", "--chunk", chunk, "--out", tmp_path / "o.csv")
        assert (code, out, len(err.splitlines())) == (2, "", 1) and "row 1: cannot read formula 'Q' at position 1 (line 4)" in err
        assert "row 3 (line 6) 'X9'" in err and "row 31 (line 34) 'X9'" in err and not (tmp_path / "o.csv").exists()
    (tmp_path / "t.csv").write_text("formula,y\n" + "NaCl,z\n" * 30)
    code, out, err = run("train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", *QUICK)
    assert "row 0: the target is 'z', not a finite number (line 2); row 1 (line 3), " in err and "row 19 (line 21): the same; and 10 more" in err
    with pytest.raises(InputError, match=r"row 0 \(line 2\).*row 19 \(line 21\) and 10 more"): from_frame(tmp_path / "t.csv", target="y")


# numbers and targets

def test_a_number_is_what_a_spreadsheet_takes_for_one(tmp_path):
    for bad in ("1_000", "１２", "٣", "0x10", "1e", "1,000", "nan", "--1", "1 000"):
        (tmp_path / "t.csv").write_text(f'formula,y,x\nNaCl,1,2\nKCl,"{bad}",3\n')
        code, out, err = run("train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", *QUICK)
        assert (code, out) == (2, "") and f"row 1: the target is {bad!r}" in err, err
        (tmp_path / "t.csv").write_text(f'formula,x,y\nNaCl,1,2\nKCl,"{bad}",3\n')
        code, out, err = run("train", tmp_path / "t.csv", "--target", "y", "--extra", "x", "--out", tmp_path / "m", *QUICK)
        assert (code, out) == (2, "") and f"row 1: the x is {bad!r}" in err, err
        with pytest.raises(InputError, match="row 1: the target"): LGDCNNRegressor(**TINY).fit(["NaCl", "KCl"], ["1", bad])
        with pytest.raises(InputError): from_frame(pd.DataFrame({"formula": ["NaCl", "KCl"], "target": ["1", bad]}))


def test_masked_values_are_missing_values():
    y = np.ma.array([1.0, 2.0, 3.0, 4.0], mask=[0, 0, 1, 0])
    with pytest.raises(InputError, match="row 2: the target is None"): LGDCNNRegressor(**TINY).fit(ROWS[:4], y)
    with pytest.raises(InputError, match="row 2: the label is missing"): LGDCNNClassifier(**TINY).fit(ROWS[:4], y)
    both = np.ma.array([[1.0, 9], [2, 2], [3, 3], [4, 1]] * 5, mask=[[0, 1], [0, 0], [0, 0], [1, 0]] * 5)
    holes = both.filled(np.nan)
    one, other = (LGDCNNRegressor(**TINY).fit(ROWS[:20], y) for y in (both, holes))
    assert one.fingerprint_ == other.fingerprint_ and np.array_equal(one.predict(ROWS), other.predict(ROWS))


@pytest.mark.parametrize("unit", [1e-163, 1e-120, 1e-310])
def test_targets_too_small_to_compute_with(unit):
    with pytest.raises(InputError, match="too little to be computed with: use another unit"): LGDCNNRegressor(**TINY).fit(ROWS, np.arange(25) * unit)
    with pytest.raises(InputError, match="use another unit"): LGDCNNRegressor(**TINY).fit(ROWS, np.arange(25)[:, None] * [unit, 1.0])
    small = LGDCNNRegressor(**TINY).fit(ROWS, np.arange(25) * 1e-60)
    assert 0 < small.predict(["NaCl"])[0] < 1e-58 or -1e-58 < small.predict(["NaCl"])[0] < 0


def test_one_formula_and_one_target(fitted):
    one = fitted.predict(["Fe2O3"])
    assert np.array_equal(fitted.predict(np.array("Fe2O3")), one) and np.array_equal(fitted.predict({"Fe": 2, "O": 3}), one)
    for y in (1.0, np.float64(1), np.array(1.0), [1.0]):
        with pytest.raises(InputError, match="all 1 formulas are one composition"): LGDCNNRegressor(**TINY).fit("Fe2O3", y)
        LGDCNNRegressor(**TINY).fit("Fe2O3", y, validation=0)
    with pytest.raises(InputError, match="2 formulas but 1 targets"): LGDCNNRegressor(**TINY).fit(["Fe2O3", "NaCl"], 1.0)


@pytest.mark.parametrize("fold", [gzip.compress, bz2.compress, lzma.compress, bytes])
@pytest.mark.parametrize("stream", [io.BytesIO, lambda b: io.BufferedReader(io.BytesIO(b)), None])
def test_what_is_compressed_is_read_whatever_it_is_called(fold, stream, tmp_path):
    content = fold("\ufeffformula,y\nNaCl,1\nKF,2\n".encode())
    (path := tmp_path / "t.csv").write_bytes(content)
    source = stream(content) if stream else path
    assert TableReader(source).table().values.tolist() == [["NaCl", "1"], ["KF", "2"]]
    assert stream is None or not source.closed, "what others have opened stays open"


def test_all_formulas_are_one_composition():
    with pytest.raises(InputError, match="all 50 formulas are one composition, 'O0.6Fe0.4': .*validation=0"): LGDCNNRegressor(**TINY).fit(["Fe2O3", "Fe4O6"] * 25, np.arange(50.0))
    assert LGDCNNRegressor(**TINY).fit(["Fe2O3"] * 50, np.arange(50.0), validation=0).n_train_ == 50


def test_compositions_are_taken_everywhere(fitted, embedded):
    from pymatgen.core import Composition

    from lgdcnn import cecv
    from lgdcnn.trust.explanation import contributions, occlusion
    texts = ["Fe2O3", "NaCl", "LiFePO4"]
    made = [Composition("Fe2O3"), {"Na": 1, "Cl": 1}, "LiFePO4"]
    assert np.array_equal(fitted.predict(made), fitted.predict(texts)) and np.array_equal(fitted.predict(Composition("Fe2O3")), fitted.predict("Fe2O3"))
    assert Applicability().fit(made).check([Composition("Fe2O3")])["distance"][0] == 0
    for f in (contributions, occlusion): pd.testing.assert_frame_equal(f(fitted, made).drop(columns="formula"), f(fitted, texts).drop(columns="formula"))
    assert len(cecv.containing(made, "Fe")) == 2
    with pytest.raises(InputError, match="no order"): fitted.predict({"Fe2O3", "NaCl"})
    model = LGDCNNRegressor(**TINY).fit([{"Na": 1, c: 1} for c in ("Cl", "F", "Br", "I")] * 3, range(12))
    assert model.n_train_ == 9 or model.n_train_ < 12


def test_missing_values_of_several_targets_are_not_scored():
    from sklearn.model_selection import GridSearchCV
    y = np.column_stack([np.arange(25.0), np.arange(25.0)[::-1]])
    y[::3, 1] = np.nan
    model = LGDCNNRegressor(**TINY).fit(ROWS, y)
    mean, known = model.predict(ROWS), np.isfinite(y)
    by_hand = [1 - ((y[k, j] - mean[k, j]) ** 2).sum() / ((y[k, j] - y[k, j].mean()) ** 2).sum() for j, k in enumerate(known.T)]
    assert model.score(ROWS, y) == pytest.approx(np.mean(by_hand))
    search = GridSearchCV(LGDCNNRegressor(**TINY), {"seed": [0, 1]}, cv=3).fit(np.array(ROWS, dtype=object), y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    y[:, 1] = np.nan
    y[0, 1] = 1.0
    assert model.score(ROWS, y) == pytest.approx(by_hand[0])


def test_two_targets_are_both_learned(tmp_path):
    (tmp_path / "t.csv").write_text("formula,a,b\n" + "".join(f"{f},{i},{'' if i % 5 == 0 else -i}\n" for i, f in enumerate(ROWS)))
    code, out, err = run("train", tmp_path / "t.csv", "--target", "a", "--target", "b", "--out", tmp_path / "m", *QUICK)
    assert code == 0 and "validation MAE of a " in out and "validation MAE of b " in out, err
    code, out, err = run("predict", tmp_path / "m", "NaCl", "--format", "json")
    assert {"prediction(a)", "prediction(b)"} <= set(json.loads(out)[0]), err
    for more in (["--target", "a"], ["--task", "classification"]):
        code, out, err = run("train", tmp_path / "t.csv", "--target", "a", "--target", "b", *more, "--out", tmp_path / "m2", *QUICK)
        assert (code, out) == (2, "") and "twice" in err or "one target" in err
    code, out, err = run("train", tmp_path / "t.csv", "--target", "a", "--seed", "1", "--out", tmp_path / "m2", "--seed", "2", *QUICK)
    assert (code, out) == (2, "") and "--seed is given twice" in err


# answers stand beside their questions

def test_answers_keep_the_index_of_the_question(fitted):
    from lgdcnn.trust.explanation import contributions, occlusion
    asked = pd.Series(["NaCl", "XeF6", "Fe2O3", "KCl"], index=[7, 3, "a", 3.5]).sort_values()
    guard = Applicability().fit(["NaCl", "KCl", "Fe2O3", "MgO"])
    found = guard.check(asked)
    assert found.index.equals(asked.index) and found["formula"].tolist() == asked.tolist() and "Xe" in found["reason"][3]
    assert guard.check(asked.tolist()).index.tolist() == [0, 1, 2, 3]
    for f in (contributions, occlusion):
        table = f(fitted, asked)
        assert {(r, t) for r, t in zip(table["row"], table["formula"], strict=True)} == set(asked.items())
    y = pd.DataFrame({"a": range(25), "b": range(25)})
    both = LGDCNNRegressor(**TINY).fit(pd.Series(ROWS), y).predict(asked)
    assert both.index.equals(asked.index)


# threads

def test_networks_do_not_depend_on_who_else_draws():
    import torch

    from lgdcnn.networks.elemnet import build_elemnet
    from lgdcnn.networks.models import build_model
    state = torch.get_rng_state()
    for build in (lambda seed: build_model(TINY["architecture"], seed), lambda seed: build_model(MODELS["crabnet-style"].replace(d_model=8), seed), build_elemnet):
        alone = [build(s).state_dict() for s in range(6)]
        with ThreadPoolExecutor(6) as pool: together = list(pool.map(lambda s, build=build: (torch.rand(50), build(s).state_dict())[1], range(6)))
        for a, b in zip(alone, together, strict=True):
            assert all(torch.equal(a[k], b[k]) if hasattr(a[k], "shape") else a[k] == b[k] for k in a)
    torch.set_rng_state(state)


def test_two_fits_in_two_threads_are_bit_equal():
    fit = lambda seed: LGDCNNRegressor(**{**TINY, "architecture": MODELS["crabnet-style"].replace(d_model=8), "epochs": 2}, seed=seed).fit(ROWS, range(25)).predict(ROWS)
    alone = [fit(s) for s in (0, 1, 2, 3)]
    with ThreadPoolExecutor(4) as pool: assert all(map(np.array_equal, alone, pool.map(fit, (0, 1, 2, 3))))


# lengths

def test_many_columns_and_long_lines_are_refused_early(tmp_path, model):
    start = time.process_time()
    head = ",".join(["formula", *(f"c{i}" for i in range(9_999))])
    (tmp_path / "t.csv").write_text(head + "\n" + ("NaCl" + ",1" * 9_999 + "\n") * 1_000)
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", 1) as f:
        for _ in range(200): f.write(bytes(1_000_000).replace(b"\0", b"x"))
    with gzip.open(tmp_path / "quoted.csv.gz", "wb", 1) as f: f.write(b'formula\n"' + b"Fe\n" * 10_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, words in (("t.csv", "has 10,000 columns"), ("bomb.csv.gz", "line 1 has more than 1,000,000"), ("quoted.csv.gz", "cannot be read")):
        for command in (["predict", model, "--csv", tmp_path / name], ["train", tmp_path / name, "--target", "y", "--out", tmp_path / "m"]):
            code, out, err = run(*command)
            assert (code, out, len(err.splitlines())) == (2, "", 1) and words in err and len(err) < 700, err
    assert time.process_time() - start < 20 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_a_part_is_bounded_whatever_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("lgdcnn.data.reading._PART_CELLS", 60)
    (tmp_path / "t.csv").write_text("formula,b,c\n" + "Fe,1,2\n" * 50)
    assert [len(p) for p in read_chunks(tmp_path / "t.csv", 1000)] == [20, 20, 10]
    monkeypatch.setattr("lgdcnn.data.reading._PART_TEXT", 8)
    assert max(len(p) for p in read_chunks(tmp_path / "t.csv", 1000)) == 2
    assert sum(len(p) for p in read_chunks(tmp_path / "t.csv", 1000)) == 50
    monkeypatch.setattr("lgdcnn.data.reading._MOST_TEXT", 100)
    with pytest.raises(InputError, match="holds more than 100 characters"): read_table(tmp_path / "t.csv")


def test_no_row_is_lost_whatever_the_length(tmp_path):
    for n in (0, 1, 3, 4, 5, 6, 7, 50):
        text = "formula;y\n" + "".join(f"Fe{i + 1};{i}\n" for i in range(n))
        reader = TableReader(io.BytesIO(text.encode()))
        assert [int(v) for p in reader.parts(4) for v in p["y"]] == list(range(n))


def test_messages_quote_80_characters(tmp_path, model):
    long = "x" * 50_000
    (tmp_path / "t.csv").write_text(f"formula,y\nNaCl,{long}\nKCl,1\n")
    (tmp_path / "u.csv").write_text(f"formula,y\n{long},1\n")
    for command in (["train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m"], ["predict", model, "--csv", tmp_path / "u.csv"], ["predict", model, long],
                    ["train", tmp_path / "t.csv", "--target", long, "--out", tmp_path / "m"], ["predict", model, "--csv", tmp_path / "t.csv", "--formula", long],
                    ["train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", "--architecture", long]):
        code, out, err = run(*command)
        assert (code, out, len(err.splitlines())) == (2, "", 1) and len(err) < 600, err[:300]
    with pytest.raises(InputError) as e: LGDCNNRegressor(**TINY).fit(["NaCl", "KCl"], [1, long])
    assert len(str(e.value)) < 200


# spreadsheets that run cells

def test_cells_that_a_spreadsheet_would_run(tmp_path, model):
    (tmp_path / "t.csv").write_text('formula,note,=n\nNaCl,"=HYPERLINK(""x"")",-1.5\nKCl,+cmd,@a\nMgO,-,ok\n')
    for safe, notes in (((), ['=HYPERLINK("x")', "+cmd", "-"]), (("--excel-safe",), ["'=HYPERLINK(\"x\")", "'+cmd", "'-"])):
        code, out, err = run("predict", model, "--csv", tmp_path / "t.csv", "--format", "csv", "--coverage", 0.5, *safe)
        table = pd.read_csv(io.StringIO(out), dtype=str)
        assert code == 0 and table["note"].tolist() == notes and list(table)[2] == ("'=n" if safe else "=n")
        assert table.iloc[:, 2].tolist() == ["-1.5", "'@a" if safe else "@a", "ok"] and all(float(v) < 10 for v in table["prediction"])


@pytest.mark.parametrize("chunk", [5, 1000])
def test_every_bad_row_is_named_and_counted_once(model, tmp_path, chunk):
    lines = ["formula", *(f"Xx{i}O" if i % 2 else "NaCl" for i in range(60))]
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    code, out, err = run("predict", model, "--csv", tmp_path / "bad.csv", "--chunk", chunk)
    rows = [int(r) for r in re.findall(r"row (\d+)", err)]
    assert (code, out) == (2, "") and rows == list(range(1, 41, 2)) and err.rstrip().endswith("and 10 more")
    code, _, err = run("predict", model, "NaCl", "Xx1O", "Yy2")
    assert code == 2 and err.count("Yy2") == 1


def test_one_point_among_decimal_commas_is_a_slip_that_is_named(tmp_path):
    "It did not turn every other number of the column into a fault."
    from lgdcnn.shortlist.check import check_table, in_words
    path = tmp_path / "mine.csv"
    path.write_text("formula;y\n" + "".join(f"Na{k}Cl;-{k},{k}\n" for k in range(1, 30)) + "KCl;-2.26\n")
    errors = check_table(path, ("y",)).of_level("error")
    assert errors["line"].tolist() == [31] and "'-2.26' has a point, and the decimal sign is a comma" in errors["problem"].iloc[0]
    path.write_text("formula;y\nNaCl;1,5\nKCl;1.5\nLiF;2.5\n")
    said = "\n".join(in_words(check_table(path, ("y",))))
    assert "y is '1,5', not a finite number (if that is a decimal comma, say --decimal ,)" in said
