"Formulas become compositions exactly, in one order, and refusals say where and why."
import math
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition

from lgdcnn import InputError
from lgdcnn.composition import (
    ATOMIC_NUMBER,
    SYMBOLS,
    FormulaError,
    composition_keys,
    featurize,
    parse_formula,
)
from lgdcnn.formulas import read_exact

symbols = st.sampled_from(SYMBOLS[1:])
amounts = st.one_of(st.just(""), st.integers(1, 999).map(str), st.decimals("0.001", "99", places=3).map(str))
parts = st.lists(st.tuples(symbols, amounts), min_size=1, max_size=7)
texts = parts.map(lambda ps: "".join(s + a for s, a in ps))
spaced = parts.map(lambda ps: " ".join(s + a for s, a in ps))  # as in tables of superconductors
nested = st.tuples(texts, st.sampled_from(["()", "[]", "{}"]), texts, st.integers(1, 20)).map(
    lambda t: f"{t[0]}{t[1][0]}{t[2]}{t[1][1]}{t[3]}")
deep = st.recursive(texts, lambda inner: st.tuples(texts, st.sampled_from(["()", "[]", "{}"]), inner, amounts).map(
    lambda t: f"{t[0]}{t[1][0]}{t[2]}{t[1][1]}{t[3]}"), max_leaves=6)


def readable(formulas):
    "Leave out what fits the grammar and is refused because it would be misread, like FeII or NaCl2.5H2O."
    out = []
    for f in formulas:
        try: parse_formula(f)
        except FormulaError as e: assert "Roman" in e.reason or "could be an amount" in e.reason, f
        else: out.append(f)
    return out


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(texts, spaced, nested, deep), min_size=1, max_size=8))
def test_array_path_equals_exact_path(formulas):
    formulas = readable(formulas)
    c = featurize(formulas)
    for i, formula in enumerate(formulas):
        exact, _ = read_exact(formula)
        total = sum(exact.values())
        mine = c[i]
        assert dict(zip(mine.numbers.tolist(), mine.fractions.tolist(), strict=True)) \
            == {ATOMIC_NUMBER[s]: float(a / total) for s, a in exact.items()}


@settings(max_examples=300, deadline=None)
@given(st.one_of(texts, spaced, nested, deep))
def test_same_composition_as_pymatgen(formula):
    if not readable([formula]): return
    theirs = Composition(formula).get_el_amt_dict()
    ours = parse_formula(formula)
    assert ours.keys() == theirs.keys()
    assert all(ours[s] == pytest.approx(theirs[s], rel=1e-9) for s in ours)


@settings(max_examples=200, deadline=None)
@given(parts, st.randoms(use_true_random=False), st.integers(2, 7))
def test_order_and_scale_change_nothing(ps, random, factor):
    merged = {}
    for s, a in ps: merged[s] = merged.get(s, 0) + round(1000 * float(a or 1))
    items = list(merged.items())
    plain = "".join(f"{s}{a}" for s, a in items)
    random.shuffle(items)
    other = "".join(f"{s}{a * factor}" for s, a in items)
    assert featurize([plain]) == featurize([other])
    assert composition_keys([plain])[0] == composition_keys([other])[0]


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=1, max_size=8))
def test_canonical_order_and_sum(formulas):
    c = featurize(readable(formulas))
    for i in range(len(c)):
        f, z = c[i].fractions, c[i].numbers
        assert sorted(zip(-f, z, strict=True)) == list(zip(-f, z, strict=True))
        assert f.sum() == pytest.approx(1, abs=1e-12) and len(set(z.tolist())) == len(z)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text):
    try: amounts = parse_formula(text)
    except FormulaError: return
    assert amounts and all(a > 0 for a in amounts.values())


REFUSED = {
    "Fe2O3)": (5, "closes no bracket"), "Ca3(PO4": (3, "never closed"), "(Fe]2": (3, "closes no bracket"),
    "Fe()2": (3, "empty"), "Xx2O": (0, "not an element"), "FeQ": (2, "not an element"), "fe2o3": (0, "unexpected"),
    "Na+": (2, "charges"), "PO4-3": (3, "negative"), "Fe-1O": (2, "negative"), "Fe0": (2, "zero"), "Fe0.0O": (2, "zero"),
    "2H2O": (0, "follows no element"), "": (0, "empty"), "   ": (0, "empty"), "123": (0, "follows no element"),
    "D2O": (0, "isotopes"), "Fe1.2.3": (5, "follows no element"), "NaCl\nKCl": (4, "unexpected"), "\n": (0, "empty"),
    "Fe1e999": (2, "out of range"), "(((H1e20)1e20)1e20)": (0, "out of range"), "H٣": (1, "unexpected"), "H" + "9" * 400: (1, "out of range"), "日本": (0, "unexpected"), "Fe_2O_3": (2, "unexpected"),
}

REFUSED |= {  # what people write, and would be misread or has to be told more of
    # hydrates with a full stop, whatever the salt, the solvent and the bracket
    "CuSO4.5H2O": (4, "(H2O)5"), "MgCl2.6H2O": (4, "(H2O)6"), "Na2CO3.10H2O": (5, "(H2O)10"), "KAl(SO4)2.12H2O": (8, "(H2O)12"),
    "CoCl2.6(H2O)": (4, "(H2O)6"), "KF.2H2O": (2, "(H2O)2"), "CaCl2.8NH3": (4, "(NH3)8"), " CuSO4.5H2O\n": (5, "bracket"),
    "CaSO4.0.5H2O": (7, "bracket"), "LiOH.H2O": (4, "bracket"), "Al2O3.2SiO2.2H2O": (10, "(H2O)2"), "Al2O3.2SiO2": (4, "(SiO2)2"),
    "KF 2H2O": (3, "(H2O)2"), "BaO 6Fe2O3": (4, "(Fe2O3)6"), "SiC 6H": (4, "bracket"), "3CdSO4·8H2O": (0, "(CdSO4)3(H2O)8"),
    "CuSO4·nH2O": (6, "put a number for n"), "CuSO4·": (5, "like CuSO4·5H2O"), "Cu1·5S": (3, "decimal point"), "NaCl*2": (4, "bracket"),
    # oxidation states, in brackets and without
    "Fe(II)O": (2, "Roman"), "Sn(IV)O2": (2, "Roman"), "Cu(I)2O": (2, "Roman"), "V(V)2O5": (1, "Roman"), "Fe [III]2 O3": (2, "Roman"),
    "Fe3O4(II,III)": (5, "Roman"), "FeIIO": (2, "Roman"), "MnIVO2": (2, "Roman"), "FeⅢ2O3": (2, "Roman"), "[Fe(CN)6](III)": (9, "Roman"),
    # charges
    "Fe[2+]2O3": (3, "charge"), "[Fe(CN)6]3-": (10, "charge"), "Fe³⁺": (2, "charge"), "SO₄²⁻": (3, "charge"), "Cl−": (2, "charge"), "PO4^3-": (3, "charge"),
    "Fe(3+)2O3": (3, "charge"), "NH4(+)": (4, "charge"), "Cu++": (2, "charge"), "Ca+2": (2, "charge"), "SO4--": (3, "charge"),
    # variables
    "YBa2Cu3O7-x": (9, "put a number for x"), "La1.85Sr0.15CuO4-δ": (16, "put a number for δ"), "La2-xSrxCuO4": (3, "put a number for x"),
    "NaxCoO2": (2, "put a number for x"), "HxWO3": (0, "put a number for x"), "SrTiO3±y": (6, "put a number for y"), "YBa2Cu3O7−ₓ": (9, "put a number for ₓ"),
    "(1-x)BaTiO3": (1, "put a number for x"), "YBa2Cu3O6.5+delta": (11, "put a number for delta"), "Oz": (0, "the symbol is unknown"), "Fe1-2zO": (3, "put a number for z"),
    # alloys, percentages, mixtures, shared sites
    "Ti-6Al-4V": (2, "weight percent"), "Al-4.5Cu": (2, "weight percent"), "Bi0.5Sb1.5Te3 + 0.1wt%": (14, "weight percent"), "Fe-10at%Ni": (2, "percent"), "Fe10%Ni": (4, "percent"),
    "20Na2O-80SiO2": (0, "(Na2O)20(SiO2)80"), "0.7BaTiO3-0.3SrTiO3": (0, "(BaTiO3)0.7(SrTiO3)0.3"), "20Na2O + 80SiO2": (0, "(Na2O)20(SiO2)80"), "Na2O-SiO2": (4, "brackets"),
    "Fe3O4@SiO2": (5, "brackets"), "(La,Sr)MnO3": (3, "amounts and no comma"), "Cu0,65Zn0,35": (3, "decimal point"), "Fe2O3, NaCl": (5, "one by one"),
    # two formulas, words, isotopes, strange signs
    "Fe2O3 NaCl": (5, "two formulas"), "NaCl\tKCl": (4, "two formulas"), "Fe2O3 Si": (5, "two formulas"), "TiO2 rutile": (5, "names, phases"), "H2O(l)": (4, "states"),
    "α-Fe2O3": (0, "α"), "²H2O": (0, "isotopes"), "¹³CO2": (0, "isotopes"), "[13C]O2": (1, "follows no element"), "Ｆe2O3": (0, "write a plain F"), "Fe２O３": (2, "write a plain 2"),
    "Fe\u200b2O3": (2, "invisible"), "Fe\ufeffO": (2, "invisible"), "Fe_2O_3": (2, "plainly"), "FE2O3": (1, "is it Fe"), "TiO2:Eu": (4, "unexpected"),
    # lengths
    "H" * 10_001: (0, "10,001 characters"), "Fe2O3 " * 2_000: (0, "12,000 characters"), "(" * 20 + "H" + ")0.999999" * 20: (174, "more than 100 digits"),
}


@pytest.mark.parametrize("formula", REFUSED, ids=[repr(f[:12]) for f in REFUSED])
def test_refusals_name_place_and_reason(formula):
    position, reason = REFUSED[formula]
    with pytest.raises(FormulaError) as e: parse_formula(formula)
    assert e.value.position == position and reason in str(e.value)
    with pytest.raises(FormulaError) as e: featurize(["NaCl", formula, "Fe2O3"])
    assert e.value.row == 1 and str(e.value).startswith("row 1: ") and len(str(e.value).splitlines()) == 1


def test_a_stray_amount_does_not_reach_the_row_before():
    with pytest.raises(FormulaError, match="row 1"): featurize(["NaCl", "2H2O"])


@pytest.mark.parametrize("value", [None, float("nan"), 3, b"NaCl", ["NaCl"]])
def test_what_is_no_string_is_refused(value):
    with pytest.raises(FormulaError, match="row 1: .*expected a string"): featurize(["NaCl", value])


def test_sodium_nitride():
    assert parse_formula("NaN") == {"Na": 1.0, "N": 1.0}


def test_errors_survive_pickling():
    with pytest.raises(FormulaError) as e: featurize(["Na", "Q"])
    again = pickle.loads(pickle.dumps(e.value))
    assert str(again) == str(e.value) and again.row == 1


def test_selection():
    c = featurize(["NaCl", "Fe", "LiFePO4", "SiO2"])
    assert c[[2, 0]] == featurize(["LiFePO4", "NaCl"])
    assert c[np.array([False, True, False, False])] == featurize(["Fe"])
    assert c[1:3] == featurize(["Fe", "LiFePO4"]) and c[-1] == featurize(["SiO2"])


@pytest.mark.parametrize("kind", ["3 % with brackets", "blanks and decimals", "site brackets"])
def test_a_half_of_pymatgens_time_at_most(kind):
    rng = np.random.default_rng(0)
    plain = [f"{SYMBOLS[a]}{i}{SYMBOLS[b]}{j}O{k}" for a, b, i, j, k in
             zip(*rng.integers(1, 90, (2, 9_700)), *rng.integers(1, 20, (3, 9_700)), strict=True)]
    grouped = [f"{SYMBOLS[a]}{i}({SYMBOLS[b]}O{j})2" for a, b, i, j in
               zip(*rng.integers(1, 90, (2, 300)), *rng.integers(1, 20, (2, 300)), strict=True)]
    formulas = [(plain + grouped)[i] for i in rng.permutation(10_000)]  # 3 % with brackets, as in the benchmark sets
    numbers = rng.integers(1, 80, (4, 10_000)).T  # many different ones: pymatgen remembers what it has read
    if kind == "blanks and decimals": formulas = [f"{SYMBOLS[a]} Fe1.{i} Co0.1{j} As{k}" for a, i, j, k in numbers]
    if kind == "site brackets": formulas = [f"{SYMBOLS[a]}(Fe0.{i}Ta0.{j})0.{k}O3" for a, i, j, k in numbers]
    def seconds(f):
        times = []
        for _ in range(3):
            start = time.process_time()
            f()
            times.append(time.process_time() - start)
        return min(times)
    ours, theirs = seconds(lambda: featurize(formulas)), seconds(lambda: [Composition(f) for f in formulas])
    assert ours <= theirs / 2, f"{ours:.3f} s against {theirs:.3f} s"


READ = {  # what is not plain and can mean one thing only
    "CuSO4·5H2O": "CuSO9H10", "CuSO4*5H2O": "CuSO9H10", "CuSO4•5H2O": "CuSO9H10", "CuSO4 · 5 H2O": "CuSO9H10", "CuSO4⋅5(H2O)": "CuSO9H10", "CaSO4·0.5H2O": "CaSO4.5H",
    "KAl(SO4)2·12H2O": "KAlS2O20H24", "MgSO4∙7H2O": "MgSO11H14", "Na2CO3・10H2O": "Na2CO13H20", "Al2O3·2SiO2·2H2O": "Al2Si2O9H4", "CaO·SiO2": "CaSiO3",
    "Fe₂O₃": "Fe2O3", "La₀.₅Sr₀.₅MnO₃": "La0.5Sr0.5MnO3", "Fe2O3\n": "Fe2O3", "\ufeffFe2O3": "Fe2O3", "Fe2O3\u00a0": "Fe2O3", "Fe2\u00a0O3": "Fe2O3", "Fe2O3\u200b\r\n": "Fe2O3",
    "Ba Fe1.88 Co0.12 As2": "BaFe1.88Co0.12As2", "Ba(Fe0.7Ta0.3)0.5O3": "BaFe0.35Ta0.15O3", "Fe 2 O 3": "Fe2O3", "La.5Sr.5CoO3": "La0.5Sr0.5CoO3", "Cu (OH)2": "CuO2H2",
    "Na0.5H2O": "Na0.5H2O", "(O4.5)H2OCuS": "O5.5H2CuS", "VI3": "VI3", "CsPbI3": "CsPbI3", "(V)2O5": "V2O5", "Mg0.5SiO2": "Mg0.5SiO2", "CsIIn2": "CsIIn2", "NaN": "NaN",
    "Ca[Al{Si(O2)2}2]2": "CaAl2Si4O16", "H" * 10_000: "H", "(" * 4_000 + "H" + ")" * 4_000: "H",
}


@pytest.mark.parametrize("text", READ, ids=[repr(t[:20]) for t in READ])
def test_what_can_mean_one_thing_only_isread_exact(text):
    if len(text) < 100: assert parse_formula(text) == parse_formula(READ[text])
    assert featurize(["NaCl", text])[1] == featurize([READ[text]])


@pytest.mark.parametrize("kind", ["dict", "pymatgen", "oxidised", "numpy"])
def test_mappings_are_compositions(kind):
    made = {"dict": {"Fe": 2, "O": 3}, "pymatgen": Composition("Fe2O3"), "oxidised": Composition({"Fe3+": 2, "O2-": 3}),
            "numpy": {"Fe": np.float64(0.1) * 4, "O": np.float32(0.6)}}[kind]
    if kind == "numpy": made = {"Fe": np.int64(2), "O": np.float64(3)}
    want = featurize("Fe2O3")
    assert featurize(made) == featurize([made]) == featurize(f for f in [made]) == want and parse_formula(made) == parse_formula("Fe2O3")
    assert featurize(["NaCl", made, "KCl"])[1] == want and composition_keys([made])[0] == composition_keys(["Fe2O3"])[0]
    assert featurize({"Fe": 0.1, "O": 0.2}) == featurize("FeO2") == featurize(np.array("FeO2"))


@pytest.mark.parametrize("bad, words", [
    ({"Fe": 0}, "amount of Fe is 0"), ({"Fe": -1}, "not a positive"), ({"Fe": math.nan}, "nan"), ({"Fe": True}, "True"), ({"Fe": "2"}, "'2'"), ({}, "empty"),
    ({"Xx": 1}, "'Xx' is not the symbol"), ({26: 2}, "26 is not the symbol"), (Composition("X2"), "'X' is not"), ({"Fe2O3": 1}, "'Fe2O3' is not the symbol"), (3.5, "not float")])
def test_mappings_that_are_none(bad, words):
    for formulas in (bad, [bad], ["NaCl", bad]):
        with pytest.raises(FormulaError, match=words) as e: featurize(formulas)
        assert "sodium nitride" not in str(e.value)
    assert e.value.row == 1


def test_a_set_a_table_and_a_missing_value():
    with pytest.raises(InputError, match="no order"): featurize({"Fe2O3", "NaCl"})
    with pytest.raises(InputError, match="one column"): featurize(np.array([["Fe2O3"], ["NaCl"]]))
    with pytest.raises(FormulaError, match="sodium nitride"): featurize(["NaCl", None])
    with pytest.raises(FormulaError, match="row 1.*missing value"): featurize(np.ma.array(["Fe", "O"], mask=[False, True]))


def test_all_bad_rows_are_named():
    formulas = ["NaCl", "Q"] * 30
    with pytest.raises(FormulaError) as e: featurize(formulas)
    text = str(e.value)
    assert e.value.rows == list(range(1, 60, 2)) and text.startswith("row 1: cannot read formula 'Q'") and "row 39 'Q' and 10 more" in text
    assert "row 41" not in text and pickle.loads(pickle.dumps(e.value)).rows == e.value.rows
    moved = e.value.placed(100, lambda row: row + 2)
    assert "row 101: cannot read formula 'Q' at position 1 (line 103)" in str(moved) and "row 139 (line 141) 'Q'" in str(moved)


def test_messages_quote_80_characters():
    with pytest.raises(FormulaError) as e: featurize(["Fe" * 2000 + "Q" + "Fe" * 2000])
    assert "Q" in str(e.value).split(": ")[1] and len(str(e.value)) < 250
    with pytest.raises(FormulaError) as e: featurize([{"a" * 5000: 1}])
    assert len(str(e.value)) < 250


def test_lengths_are_refused_at_once():
    start = time.process_time()
    for text in ("(" * 20_000 + "H" + ")0.9999" * 20_000, "(" * 1_400 + "H" + ")0.9999" * 1_200 + ")" * 200, "H" * 5_000_000, "[" * 9_999):
        with pytest.raises(FormulaError): parse_formula(text)
        with pytest.raises(FormulaError): featurize([text])
    assert time.process_time() - start < 2
