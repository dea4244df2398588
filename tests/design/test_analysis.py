"""What determines the error is found, what does not is not; every number against scipy, or by hand."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from lgdcnn.config import InputError
from lgdcnn.design.analysis import (
    PRIMARY,
    USEFUL,
    across_sets,
    agreement_of_seeds,
    bands,
    best_tenth,
    corrected,
    holm,
    inside_region,
    judge_region,
    nearest_third,
    partial_within_sets,
    primary_answers,
    signal_table,
    strongest,
    unit_ranks,
    within_sets,
)
from lgdcnn.design.measured import CECV_SIGNALS, RIVALS, SIGNALS, Measured, made_up_runs, measured

VALUE = "cecv trained read 0.05"
SETS = "abc"


@pytest.fixture(scope="module")
def names(): return [f"{word}-{width}" for word in ("lg", "ga", "s", "sm", "mam") for width in (32, 48, 64, 96)]


@pytest.fixture(scope="module")
def planted(names): return measured(made_up_runs(names, SETS, [0, 1], lambda h, rng: h + 0.01 * rng.random()))


@pytest.fixture(scope="module")
def shuffled(names): return measured(made_up_runs(names, SETS, [0], lambda h, rng: rng.random()))


@pytest.fixture(scope="module")
def middle(names): return measured(made_up_runs(names, SETS, [0], lambda h, rng: abs(h - 0.5) + 0.01 * rng.random()))


# the two truths that a study must tell

def test_a_planted_signal_is_found(planted):
    assert within_sets(planted.signals[VALUE], planted.error) > 0.99 and across_sets(planted.signals[VALUE], planted.error) > 0.99
    assert corrected(planted, SIGNALS, 200)[VALUE][1] == pytest.approx(1 / 201)  # no luck of 200 came near
    assert strongest(planted).startswith("cecv") and bands(planted, [VALUE], 200)[VALUE][0] > 0.95
    assert agreement_of_seeds(planted) > 0.99


def test_a_shuffled_signal_is_not_found(shuffled):
    "Its band holds zero, and the strongest of 246 is not taken for a find."
    low, high = bands(shuffled, [VALUE], 300)[VALUE]
    assert low < 0 < high and abs(within_sets(shuffled.signals[VALUE], shuffled.error)) < 0.3
    p, family = corrected(shuffled, SIGNALS, 200)[strongest(shuffled)]
    assert family > 0.05 and family >= p
    assert (primary_answers(shuffled, 100)["p_holm"] > 0.05).all()
    assert math.isnan(agreement_of_seeds(shuffled))  # one seed


def test_the_same_signal_shuffled_over_designs_is_lost(planted):
    order = np.random.default_rng(5).permutation(len(planted.designs))
    assert abs(within_sets(planted.signals[VALUE][:, order], planted.error)) < 0.5


def test_the_papers_idea_is_found_where_it_is_true(middle):
    answers = primary_answers(middle, 100)
    assert (answers["p_holm"] < 0.05).all() and answers.loc["idea", "correlation"] > 0.95 and answers.loc["use", "correlation"] > 0.9
    table = signal_table(middle, n=100)
    assert set(RIVALS) | {PRIMARY, USEFUL} <= set(table.index) and table.loc[PRIMARY, "within"] > 0.95
    assert (table["p_family"] >= table["p"]).all() and (table["low"] <= table["high"]).all()


def test_where_less_is_better_the_middle_is_no_help(planted):
    assert within_sets(planted.signals["off trained read 0.05"], planted.error) < 0.5 < within_sets(planted.signals[VALUE], planted.error)


# correlations

TIED = st.lists(st.integers(0, 6), min_size=5, max_size=14)


@settings(max_examples=60, deadline=None)
@given(st.data(), TIED)
def test_ranks_correlate_as_scipy_has_it(data, x):
    y = data.draw(st.lists(st.integers(0, 6), min_size=len(x), max_size=len(x)))
    a, b = np.array([x, y], float), np.array([y, y], float)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert within_sets(a[:1], b[:1]) == 0  # scipy has no number here; what ranks nothing correlates with nothing
        return
    assert within_sets(a, b) == pytest.approx((spearmanr(x, y).statistic + 1) / 2)
    assert within_sets(a, b) == pytest.approx(within_sets(np.exp(a), b ** 3))  # ranks alone count
    assert within_sets(a, -b) == pytest.approx(-within_sets(a, b))


def test_ranks_stand_with_what_is_lost():
    assert spearmanr([1, 2, 3, 4], [1, 2, 3, 9]).statistic == 1
    assert within_sets(np.array([[1.0, 2, 3, 4]]), np.array([[1.0, 2, 3, np.inf]])) == pytest.approx(1)
    assert unit_ranks(np.array([5.0, 5.0])).tolist() == [0, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10 ** 6))
def test_partial_correlation_is_that_of_the_inverse_matrix(seed):
    "Of signal and error given two controls: from the inverse of the matrix of all four; given one: by the formula of three."
    rng = np.random.default_rng(seed)
    s, e, c, d = rng.random((4, 30)) + rng.random(30)
    inverse = np.linalg.inv(spearmanr(np.stack([s, e, c, d]), axis=1).statistic)
    by_hand = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
    one = lambda *x: partial_within_sets(s[None], e[None], [v[None] for v in x])
    assert one(c, d) == pytest.approx(by_hand)
    r = lambda a, b: spearmanr(a, b).statistic
    assert one(c) == pytest.approx((r(s, e) - r(s, c) * r(e, c)) / math.sqrt((1 - r(s, c) ** 2) * (1 - r(e, c) ** 2)))
    assert abs(partial_within_sets(c[None] ** 3, e[None], [c[None]])) < 1e-6  # what is known adds nothing


# bands and corrections

def test_a_band_is_over_designs(planted):
    "The same draws by hand; the same designs in all sets; a signal that ranks perfectly does so in each draw."
    rng, d = np.random.default_rng(3), len(planted.designs)
    signal = planted.signals["parameters"]
    draws = [rng.integers(d, size=d) for _ in range(150)]
    by_hand = [np.mean([spearmanr(x[k], y[k]).statistic for x, y in zip(signal, planted.error, strict=True)]) for k in draws]
    assert bands(planted, ["parameters"], 150, seed=3)["parameters"] == pytest.approx(tuple(np.quantile(by_hand, (0.025, 0.975))))
    assert bands(planted, ["parameters", VALUE], 50) == bands(planted, ["parameters", VALUE], 50)


def test_a_band_is_narrower_where_there_are_more_designs(shuffled):
    few = Measured(shuffled.sets, shuffled.designs[:6], shuffled.error[:, :6], {VALUE: shuffled.signals[VALUE][:, :6]},
                   shuffled.by_seed, shuffled.references)
    wide = bands(few, [VALUE], 300)[VALUE]
    narrow = bands(shuffled, [VALUE], 300)[VALUE]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_p_values_of_nothing_are_even():
    "Of studies in which nothing is true, about one in ten has a p-value below a tenth, and no more after the correction."
    p = []
    for seed in range(40):
        values = np.random.default_rng(seed).random((5, 2, 12))
        study = Measured(("a", "b"), tuple("abcdefghijkl"), values[0], dict(zip("wxyz", values[1:], strict=True)), values[:1], {})
        p.append(corrected(study, "wxyz", 60, seed)["w"])
    alone, family = np.array(p).T
    assert (alone < 0.1).mean() < 0.25 and (family < 0.1).mean() <= (alone < 0.1).mean()


@pytest.mark.parametrize("given, wanted", [({"a": 0.01, "b": 0.04}, {"a": 0.02, "b": 0.04}), ({"a": 0.6, "b": 0.7}, {"a": 1.0, "b": 1.0}),
                                           ({"a": 0.04, "b": 0.01, "c": 0.03}, {"b": 0.03, "c": 0.06, "a": 0.06})])
def test_holm_by_hand(given, wanted): assert holm(given) == pytest.approx(wanted)


# the region

def test_the_region_lies_between_the_references(middle):
    "The made-up references lie at 0.1 and 0.9: inside is what hides a number between."
    hidden = middle.signals[VALUE] / 0.95
    assert (inside_region(middle, "trained") == ((hidden >= 0.1) & (hidden <= 0.9))).all()
    assert middle.references["trained read 0.05"][:, 0] == pytest.approx([0.095, 0.855])
    third = nearest_third(middle, PRIMARY)
    assert (third.sum(1) == round(20 / 3)).all() and (middle.signals[PRIMARY][third].max() <= middle.signals[PRIMARY][~third].min() + 1e-12)


def test_the_best_tenth_by_hand():
    error = np.array([[3.0, 1, 2, 5, 4, 9, 8, 7, 6, 0]])
    assert best_tenth(error)[0].tolist() == [False] * 9 + [True]
    assert best_tenth(error[:, :3])[0].tolist() == [False, True, False]  # one at least


def test_a_rule_that_holds_all_holds_nothing_more(middle):
    region = judge_region(np.ones_like(middle.error, bool), middle.error, 100)
    assert (region.best, region.all, region.p) == (1.0, 1.0, 1.0) and region.low == region.high == 0


# what is measured, of a study that is not done

def test_designs_and_seeds_that_lack_a_set_are_left_out(names):
    runs = made_up_runs(names[:4], "ab", [0, 1], lambda h, rng: h)
    part = [r for r in runs if (r["design"], r["dataset"], r["seed"]) not in {(names[0], "b", 0), (names[1], "a", 0), (names[1], "a", 1)}]
    study = measured(part, ("a", "b"))
    assert study.designs == (names[0], names[2], names[3]) and study.n_runs == len(part)
    assert np.isnan(study.by_seed[0, :, 0]).all() and np.isfinite(study.by_seed[1]).all()
    with pytest.raises(InputError, match="runs are too few"): measured([r for r in runs if r["design"] not in ("l-64", "c-64-k1u3")])
    with pytest.raises(InputError, match="there are no runs"): measured([])
    with pytest.raises(InputError, match="cannot be ranked"): signal_table(measured(made_up_runs(names[:3], "ab", [0], lambda h, rng: h)))


def test_a_run_that_was_lost_ranks_last(names):
    runs = made_up_runs(names[:5], "a", [0], lambda h, rng: h)
    lost = next(r for r in runs if r["design"] == names[2])
    lost |= {"test_mae": None, "val": [], "failed": "lost", "cecv": {"untrained": lost["cecv"]["untrained"]}}
    study = measured(runs)
    assert study.error[0].argmax() == 2 and study.signals["early_error"][0, 2] == math.inf
    assert np.isfinite(study.signals["cecv trained read 0.05"]).all()  # seen as at its last look


def test_values_are_means_over_seeds(names):
    runs = made_up_runs(names[:4], "a", [0, 1, 2], lambda h, rng: rng.random())
    study = measured(runs)
    for k, name in enumerate(study.designs):
        of = [r for r in runs if r["design"] == name]
        assert study.error[0, k] == pytest.approx(np.mean([r["test_mae"] for r in of]))
        assert study.signals["naswot"][0, k] == pytest.approx(np.mean([r["signals"]["naswot"] for r in of]))


def test_the_family_is_two_kinds_three_states_five_layers_eight_thresholds_and_six_rivals():
    "The protocol's prose said 486; the family that it describes, and that is corrected for, has 246."
    assert len(set(SIGNALS)) == len(SIGNALS) == 2 * 3 * 5 * 8 + 6 == len(CECV_SIGNALS) + len(RIVALS)
