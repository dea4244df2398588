"Fusion: weights on the simplex, quantiles of mixtures with an atom, calibration that took no part in choosing."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lgdcnn.config import InputError
from lgdcnn.fusion.mixture import (
    Fusion,
    cross_fitted,
    has_atom,
    laplace_cdf,
    learn_fusion,
    learn_weights,
    member_spread,
    mixture_median,
    mixture_quantile,
    mixture_std,
    zero_gate,
    zero_probability,
)

number = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def members(draw, most=30):
    m, n = draw(st.integers(1, 5)), draw(st.integers(0, most))
    table = lambda elements: draw(hnp.arrays(float, (m, n), elements=elements))
    return draw(hnp.arrays(float, n, elements=number)), table(number), table(st.floats(1e-3, 1e4))


@settings(max_examples=60, deadline=None)
@given(members())
def test_weights_are_always_a_simplex(rows):
    w = learn_weights(*rows)
    assert w.shape == (len(rows[1]),) and (w >= 0).all() and w.sum() == pytest.approx(1)
    assert (w == learn_weights(*rows)).all()


@settings(max_examples=60, deadline=None)
@given(members(), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_quantiles_lie_between_the_members_and_never_fall(rows, q, seed):
    _, means, stds = rows
    rng = np.random.default_rng(seed)
    w, zero = rng.dirichlet(np.ones(len(means))), rng.uniform(size=means.shape[1])
    x = mixture_quantile(q, means, stds, w)
    assert np.allclose(w @ laplace_cdf(x, means, stds), q, atol=1e-6)
    room = 1e-9 * (1 + np.abs(means).max(initial=0) + stds.max(initial=0))
    assert (mixture_quantile(min(q + 0.005, 0.995), means, stds, w) >= x - room).all()
    gated = mixture_quantile(q, means, stds, w, zero)
    assert (mixture_quantile(min(q + 0.005, 0.995), means, stds, w, zero) >= gated - room).all()
    assert (np.abs(mixture_median(means, stds, w, np.ones(means.shape[1]))) == 0).all()
    assert (mixture_std(means, stds, w, zero) >= 0).all()


def planted(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    y, shared = rng.normal(size=n), rng.laplace(size=n)
    return y, y + np.stack([shared, 0.3 * rng.laplace(size=n), shared + 0.01 * rng.normal(size=n), 3 * rng.laplace(size=n)])


def test_a_planted_best_member_is_found_and_a_bad_one_dropped():
    y, means = planted()
    w = learn_weights(y, means, np.ones_like(means))
    assert w[1] > 0.85 and w[3] < 0.02


def test_few_rows_pull_to_equal_weights():
    y, means = planted()
    off = [np.abs(learn_weights(y[:n], means[:, :n], np.ones((4, n))) - 0.25).max() for n in (0, 1, 5, 50, 2000)]
    assert off[0] == 0 and off[1] < off[3] < off[4]
    assert np.abs(learn_weights(y[:5], means[:, :5], np.ones((4, 5)), strength=1e6) - 0.25).max() < 1e-4


@pytest.mark.parametrize("scale", [1e-100, 1e-6, 1.0, 1e5, 1e100])
def test_weights_know_neither_unit_nor_origin_nor_order(scale):
    y, means = planted(200)
    w = learn_weights(y, means, np.ones_like(means))
    order = [2, 0, 3, 1]
    moved = learn_weights(scale * (y + 7), scale * (means[order] + 7), scale * np.ones_like(means))
    assert moved == pytest.approx(w[order], abs=2e-4)


def test_rows_that_are_rather_zero_do_not_vote():
    y, means = planted(200)
    zero = np.r_[np.ones(100), np.zeros(100)]
    ones = np.ones_like(means)
    assert (learn_weights(y, means, ones, zero=zero) == learn_weights(y[100:], means[:, 100:], ones[:, 100:])).all()
    assert (learn_weights(y, means, ones, zero=np.ones(200)) == 0.25).all()


def test_median_is_exactly_zero_inside_the_atom_and_only_there():
    means, stds, w = np.array([[2.0, 2.0, -2.0, 2.0]]), np.full((1, 4), 0.1), [1.0]
    zero = np.array([0.51, 0.49, 0.49, 0.0])
    found = mixture_median(means, stds, w, zero)
    assert found[0] == 0 and found[3] == 2 and found[1] > 1.5 and found[2] < -1.5
    assert mixture_quantile(0.9, means, stds, w, zero)[0] > 1.9  # above the jump


def test_mixture_std_is_that_of_draws():
    rng = np.random.default_rng(0)
    means, stds, w, p = np.array([1.0, 3.0]), np.array([0.5, 1.0]), np.array([0.3, 0.7]), 0.25
    which = rng.choice(2, 200_000, p=w)
    x = rng.laplace(means[which], stds[which] / np.sqrt(2)) * (rng.uniform(size=200_000) > p)
    assert mixture_std(means[:, None], stds[:, None], w, [p])[0] == pytest.approx(x.std(), rel=0.02)
    assert mixture_quantile(0.8, means[:, None], stds[:, None], w, [p])[0] == pytest.approx(np.quantile(x, 0.8), rel=0.02)


@pytest.mark.parametrize("bad, says", [
    (dict(q=0.0), "between 0 and 1"), (dict(stds=[[0.0]]), "positive"), (dict(means=[[np.nan]]), "finite"),
    (dict(weights=[0.5]), "add to one"), (dict(weights=[0.5, 0.5]), "1 numbers"), (dict(zero=[1.5]), "probability"),
    (dict(means=[1.0]), "tables"),
])
def test_impossible_mixtures_are_refused(bad, says):
    good = dict(q=0.5, means=[[1.0]], stds=[[1.0]], weights=[1.0], zero=None)
    with pytest.raises(InputError, match=says): mixture_quantile(**(good | bad))


def test_no_row_has_a_part_in_its_own_calibration():
    rng = np.random.default_rng(3)
    y, means, groups = np.zeros(40), rng.laplace(size=(3, 40)), np.repeat(np.arange(20), 2)
    zeros = rng.uniform(size=40)
    said = cross_fitted(y, means, np.ones((3, 40)), groups=groups, p_zero=zeros)
    for row in (0, 7, 39):
        other = y.copy()
        other[row] = 1e3
        again = cross_fitted(other, means, np.ones((3, 40)), groups=groups, p_zero=zeros)
        twin = groups == groups[row]
        assert all((a[twin] == b[twin]).all() for a, b in zip(said, again, strict=True))
        assert any((a != b).any() for a, b in zip(said, again, strict=True))  # others do listen to it


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_a_handful_of_rows_is_enough(n):
    y, means = planted(n)
    median, std = cross_fitted(y, means, np.ones_like(means))
    assert len(median) == n and (std > 0).all() and np.isfinite(median).all()
    assert learn_fusion(y, means, np.ones_like(means)).weights.sum() == pytest.approx(1)


def test_the_width_of_a_member_does_not_depend_on_how_many_rows_tell_it():
    e = np.random.default_rng(0).laplace(size=60_000) / np.sqrt(2)
    mean = lambda n: np.mean([member_spread(row, np.zeros(n)) for row in e[:len(e) // n * n].reshape(-1, n)])
    assert mean(48) == pytest.approx(mean(60), rel=0.03) and mean(1000) == pytest.approx(1, abs=0.02)


def test_the_gate_lowers_the_error_where_half_is_zero():
    rng = np.random.default_rng(0)
    def rows(n):
        metal = rng.uniform(size=n) < 0.5
        y = np.where(metal, 0.0, rng.uniform(0.5, 4, n))
        p = 1 / (1 + np.exp(-(np.where(metal, 2, -2) + rng.normal(size=n)) * 2))
        return y, np.abs(y + 0.4 * rng.laplace(size=(2, n))), p
    (y, means, p), (truth, new, said) = rows(300), rows(2000)
    assert has_atom(y)
    error = lambda *gate: np.abs(learn_fusion(y, means, np.ones_like(means), *gate[:1]).predict(new, np.ones_like(new), *gate[1:])[0] - truth).mean()
    assert error(p, said) < 0.8 * error()
    gate = zero_gate(y == 0, p)
    assert ((zero_probability(said, gate) > 0.5) == (truth == 0)).mean() > 0.95
    assert isinstance(learn_fusion(y, means, np.ones_like(means), p), Fusion)
