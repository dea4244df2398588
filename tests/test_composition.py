"Formulas become compositions exactly, in one order, and refusals say where and why."
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition

from lgdcnn.composition import (
    ATOMIC_NUMBER,
    SYMBOLS,
    FormulaError,
    _parse_exact,
    composition_keys,
    featurize,
    parse_formula,
)

symbols = st.sampled_from(SYMBOLS[1:])
amounts = st.one_of(st.just(""), st.integers(1, 999).map(str), st.decimals("0.001", "99", places=3).map(str))
parts = st.lists(st.tuples(symbols, amounts), min_size=1, max_size=7)
texts = parts.map(lambda ps: "".join(s + a for s, a in ps))
nested = st.tuples(texts, st.sampled_from(["()", "[]", "{}"]), texts, st.integers(1, 20)).map(
    lambda t: f"{t[0]}{t[1][0]}{t[2]}{t[1][1]}{t[3]}")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(texts, nested), min_size=1, max_size=8))
def test_array_path_equals_exact_path(formulas):
    c = featurize(formulas)
    for i, formula in enumerate(formulas):
        exact = _parse_exact(formula)
        total = sum(exact.values())
        mine = c[i]
        assert dict(zip(mine.numbers.tolist(), mine.fractions.tolist(), strict=True)) \
            == {ATOMIC_NUMBER[s]: float(a / total) for s, a in exact.items()}


@settings(max_examples=300, deadline=None)
@given(st.one_of(texts, nested))
def test_same_composition_as_pymatgen(formula):
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
    c = featurize(formulas)
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
    "CuSO4·5H2O": (5, "bracket"), "D2O": (0, "isotopes"), "Fe1.2.3": (5, "follows no element"), "NaCl\nKCl": (4, "unexpected"), "\n": (0, "empty"),
    "Fe1e999": (2, "out of range"), "(((H1e20)1e20)1e20)": (0, "out of range"), "H٣": (1, "unexpected"), "H" + "9" * 400: (1, "out of range"), "日本": (0, "unexpected"), "Fe_2O_3": (2, "unexpected"),
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


def test_a_third_of_pymatgens_time():
    rng = np.random.default_rng(0)
    plain = [f"{SYMBOLS[a]}{i}{SYMBOLS[b]}{j}O{k}" for a, b, i, j, k in
             zip(*rng.integers(1, 90, (2, 48_500)), *rng.integers(1, 20, (3, 48_500)), strict=True)]
    grouped = [f"{SYMBOLS[a]}{i}({SYMBOLS[b]}O{j})2" for a, b, i, j in
               zip(*rng.integers(1, 90, (2, 1_500)), *rng.integers(1, 20, (2, 1_500)), strict=True)]
    formulas = [(plain + grouped)[i] for i in rng.permutation(50_000)]  # 3 % with brackets, as in the benchmark sets
    def seconds(f):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            f()
            times.append(time.perf_counter() - start)
        return min(times)
    ours, theirs = seconds(lambda: featurize(formulas)), seconds(lambda: [Composition(f) for f in formulas])
    assert ours <= theirs / 3, f"{ours:.3f} s against {theirs:.3f} s"
