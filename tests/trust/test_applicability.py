"Distances to the training set: a true metric of compositions, exact, blind to spelling; the flag says why."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from lgdcnn import InputError
from lgdcnn.composition import SYMBOLS, featurize, parse_formula
from lgdcnn.trust.applicability import METRICS, PETTIFOR, Applicability, by_distance

parts = st.dictionaries(st.sampled_from(SYMBOLS[1:119]), st.integers(1, 30), min_size=1, max_size=6)


def text(part, factor=1):
    return "".join(f"{s}{n * factor}" for s, n in part.items())


def between(a, b, metric):
    x, y = METRICS[metric](featurize([a, b]))
    return np.abs(x - y).sum()


@pytest.fixture(scope="module")
def guard(embedded):
    return Applicability().fit(embedded.part("train")[0])


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=60, deadline=None)
@given(a=parts, b=parts, c=parts, factor=st.integers(2, 9))
def test_it_is_a_metric(metric, a, b, c, factor):
    a, b, c, again = text(a), text(b), text(c), text(dict(reversed(a.items())), factor)
    assert between(a, again, metric) == 0
    assert between(a, b, metric) == pytest.approx(between(b, a, metric))
    assert between(a, c, metric) <= between(a, b, metric) + between(b, c, metric) + 1e-9


@settings(max_examples=60, deadline=None)
@given(a=parts, b=parts)
def test_the_mover_takes_the_cheapest_way(a, b):
    place = {s: k for k, s in enumerate(PETTIFOR)}
    a, b = ({s: n for s, n in p.items() if s in place} for p in (a, b))
    if not a or not b: return
    expected = wasserstein_distance(*[[place[s] for s in p] for p in (a, b)], list(a.values()), list(b.values()))
    assert between(text(a), text(b), "mover") == pytest.approx(expected, abs=1e-9)


def test_the_scale_holds_each_element_once():
    assert sorted(PETTIFOR) == sorted(SYMBOLS[1:104])


def test_training_formulas_are_at_distance_zero_however_written(guard, embedded):
    train = embedded.part("train")[0]
    assert (guard.distance(train) == 0).all() and not guard.flag(train).any()
    respelled = [text({s: int(n) for s, n in reversed(parse_formula(f).items())}, 3) for f in train[:100]]
    assert (guard.distance(respelled) == 0).all()


def test_the_nearest_is_the_nearest(guard, embedded):
    asked, space = embedded.part("test")[0][:40], METRICS["mover"]
    x, y = space(featurize(asked)), space(featurize(guard.formulas_))
    every = np.abs(x[:, None] - y[None]).sum(2)
    table = guard.check(asked)
    assert np.allclose(table["distance"], every.min(1), atol=1e-12)
    assert np.allclose([between(a, b, "mover") for a, b in zip(asked, table["nearest"], strict=True)], table["distance"])


def test_blocks_do_not_matter(guard, embedded, monkeypatch):
    asked = embedded.part("test")[0]
    whole = guard.distance(asked)
    monkeypatch.setattr("lgdcnn.trust.applicability._BLOCK", 7)
    assert np.array_equal(guard.distance(asked), whole)


def test_the_threshold_leaves_out_the_lonely_twentieth(guard, embedded):
    train = embedded.part("train")[0]
    tight = Applicability(quantile=0.5).fit(train)
    assert tight.threshold_ < guard.threshold_
    alone = Applicability(quantile=0.95, sample=10 ** 6).fit(train)._left_out()
    assert 0.03 < (alone > guard.threshold_).mean() <= 0.05 and (alone > 0).all()


def test_unknown_elements_are_named_and_flagged(guard):
    asked = ["NaCl", "XeF2", "PuXe", "NaCl"]
    assert guard.unknown_elements(asked) == [[], ["Xe"], ["Xe", "Pu"], []]
    table = guard.check(asked)
    assert table["outside"].tolist() == guard.flag(asked).tolist() == [False, True, True, False]
    assert "no training formula contains Xe; no training formula contains Pu" in table["reason"][2] and not table["reason"][0]


def test_traces_are_named_and_flagged(guard, embedded):
    "One part in a million is next to no distance, and outside all the same; no training formula is."
    assert guard.smallest_fraction_ == pytest.approx(0.04)
    asked = ["NaCl", "NaClAu1e-6", "Na0.5K0.5Cl", "Ca24TiO75"]
    assert guard.trace_elements(asked) == [[], ["Au"], [], ["Ti"]]
    table = guard.check(asked)
    assert table["distance"][1] < 1e-4 < guard.threshold_ and table["outside"].tolist() == guard.flag(asked).tolist()
    assert table["reason"][1] == "a trace of Au: no training formula holds less than 0.04 of an element"
    assert not table["reason"][0] and not guard.flag(embedded.part("train")[0]).any()


def test_a_bit_less_is_no_trace():
    "Half of the smallest fraction is where traces begin, however it was rounded."
    guard = Applicability().fit(["Ti2O3", "CaO", "CaTiO8"])  # smallest: a tenth
    assert guard.trace_elements(["CaTi0.9O9.1", "TiO19", "TiO20", "Ti0.05O0.95"]) == [[], [], ["Ti"], []]


def test_repeated_compositions_count_once():
    once = Applicability().fit(["NaCl", "KCl", "MgO", "CaO"])
    often = Applicability().fit(["NaCl", "ClNa", "NaCl", "KCl", "K2Cl2", "MgO", "CaO"])
    assert once.threshold_ == often.threshold_ > 0 and len(often.compositions_) == 4


def test_parts_by_distance_hold_every_row():
    rng = np.random.default_rng(0)
    d, e = rng.random(101), rng.normal(size=101)
    table = by_distance(d, e, 5)
    assert table["n"].sum() == 101 and table["distance"].is_monotonic_increasing
    assert (table["n"] * table["mae"]).sum() == pytest.approx(np.abs(e).sum())


@pytest.mark.parametrize("call, words", [
    (lambda: Applicability("euclid").fit(["NaCl", "KCl"]), "unknown distance 'euclid'"),
    (lambda: Applicability(quantile=1.0), "quantile = 1.0"),
    (lambda: Applicability(sample=0), "sample = 0"),
    (lambda: Applicability().fit(["NaCl"]), "one composition only"),
    (lambda: Applicability().fit([]), "no formulas"),
    (lambda: Applicability().fit(["NaCl", "Xx"]), "row 1: cannot read formula 'Xx'"),
    (lambda: Applicability().distance(["NaCl"]), "call fit"),
    (lambda: Applicability().unknown_elements(["NaCl"]), "call fit"),
    (lambda: Applicability().trace_elements(["NaCl"]), "call fit"),
    (lambda: by_distance([1, 2, 3, 4], [1, 2], 2), "columns of one length"),
    (lambda: by_distance([1, 2, 3, 4], [1, 2, 3, 4], 3), "parts = 3 is not possible"),
])
def test_applicability_refuses(call, words):
    with pytest.raises(InputError, match=words): call()
