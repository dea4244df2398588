"""CECV against its definition: plain loops, hand-made cases and invariances."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lgdcnn import cecv
from lgdcnn.cecv import clusters
from lgdcnn.cecv import legacy as cecv_legacy
from lgdcnn.cecv import order as cecv_order
from lgdcnn.composition import featurize
from lgdcnn.config import InputError
from lgdcnn.elements import element_table

PROFILE = settings(max_examples=60, deadline=None)


class StandIn:
    """A fixed network: mat2vec weighted by the fraction, and a random layer that sees the mean."""

    layers = ("input", "output")
    weights = np.random.default_rng(0).normal(size=(200, 48)) / 14

    def embed(self, formulas, layer="output"):
        c = featurize(formulas)
        mask = np.arange(c.n_elements.max()) < c.n_elements[:, None]
        x = np.zeros((*mask.shape, 200), np.float32)
        x[mask] = element_table()[c.numbers] * c.fractions[:, None]
        if layer == "input":
            return x, mask
        mean = x.sum(1, keepdims=True) / c.n_elements[:, None, None]
        return (np.tanh((x + mean) @ self.weights * 20) * mask[..., None]).astype(np.float32), mask


def random_matrices(rng, m, n, decimals=2):
    r = rng.normal(0, 0.3, (m, n, n)).clip(-1, 1).round(decimals)
    r = np.triu(r, 1)
    return r + r.swapaxes(1, 2) + np.eye(n)


def count_plainly(matrices, threshold):
    """The definition as a double loop, nothing else."""
    assigned, count = [False] * len(matrices), 0
    for i in range(len(matrices)):
        if assigned[i]:
            continue
        count += 1
        for j in range(i, len(matrices)):
            if not assigned[j] and np.abs(matrices[i] - matrices[j]).max() <= threshold:
                assigned[j] = True
    return count


def of_entry(n, *values):
    r = np.tile(np.eye(n), (len(values), 1, 1))
    r[:, 0, 1] = r[:, 1, 0] = values
    return r


# counting

def test_equals_the_double_loop_on_a_thousand_cases():
    rng = np.random.default_rng(7)
    for _ in range(1000):
        n = int(rng.integers(3, 8))
        r = random_matrices(rng, int(rng.integers(1, 18)), n, decimals=int(rng.integers(1, 4)))
        if rng.random() < 0.3:  # neighbourhoods rather than noise
            r[1:] = r[:1] + 0.1 * (r[1:] - r[:1])
        for t in cecv.THRESHOLDS:
            assert cecv.count_clusters(r, t) == count_plainly(r, t)


def test_equals_the_double_loop_at_exact_ties():
    rng = np.random.default_rng(8)
    for _ in range(50):
        r = random_matrices(rng, 20, 3)
        t = np.abs(r[rng.integers(20)] - r[rng.integers(20)]).max()
        assert cecv.count_clusters(r, t) == count_plainly(r, t)


@pytest.mark.parametrize("m", [255, 256, 257, 700])
def test_blocks_do_not_show(m, monkeypatch):
    r = random_matrices(np.random.default_rng(m), m, 3)
    expected = [count_plainly(r, t) for t in (0.1, 0.4)]
    assert [cecv.count_clusters(r, t) for t in (0.1, 0.4)] == expected
    monkeypatch.setattr(clusters, "_ROWS", 13)
    monkeypatch.setattr(clusters, "_LEADERS", 7)
    assert [cecv.count_clusters(r, t) for t in (0.1, 0.4)] == expected


@PROFILE
@given(st.integers(1, 40), st.integers(3, 7), st.floats(0, 1))
def test_identical_matrices_are_one_cluster(m, n, t):
    r = np.repeat(random_matrices(np.random.default_rng(m), 1, n), m, axis=0)
    assert cecv.count_clusters(r, t) == 1
    assert cecv_order.count_complete({n: (None, r)}, (t,)) == [1]


@PROFILE
@given(st.integers(1, 40), st.integers(3, 7), st.sampled_from(cecv.THRESHOLDS))
def test_far_apart_matrices_are_n_clusters(m, n, t):
    r = of_entry(n, *(np.arange(m) * (t + 0.01)))
    assert cecv.count_clusters(r, t) == m
    assert cecv_order.count_complete({n: (None, r)}, (t,)) == [m]


@PROFILE
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_labels_are_the_definition(seed, m):
    r = random_matrices(np.random.default_rng(seed), m, 3)
    labels = cecv.cluster_labels(r, 0.3)
    leaders = np.flatnonzero(labels == np.arange(m))
    assert len(leaders) == cecv.count_clusters(r, 0.3) == len(set(labels))
    for i in range(m):
        near = [k for k in leaders if np.abs(r[i] - r[k]).max() <= 0.3]
        assert labels[i] == near[0]


def test_labels_blocks_do_not_show(monkeypatch):
    r = random_matrices(np.random.default_rng(0), 500, 3)
    expected = cecv.cluster_labels(r, 0.2)
    monkeypatch.setattr(clusters, "_ROWS", 11)
    monkeypatch.setattr(clusters, "_LEADERS", 17)
    assert (cecv.cluster_labels(r, 0.2) == expected).all()


@pytest.mark.parametrize("bad, message", [
    (lambda: cecv.count_clusters(np.eye(3), 0.1), "cannot be compared"),
    (lambda: cecv.count_clusters(np.full((2, 3, 3), np.nan), 0.1), "not finite"),
    (lambda: cecv.count_clusters(of_entry(3, 0.1), -1), "zero or positive"),
    (lambda: cecv.count_clusters(of_entry(3, 0.1), float("nan")), "zero or positive"),
    (lambda: cecv.pearson_matrices(np.zeros((2, 1, 4))), "elements >= 2"),
    (lambda: cecv.pearson_matrices(np.zeros((3, 4))), "elements >= 2"),
    (lambda: cecv.pearson_matrices([[[1, 2], [3, np.inf], [1, 1]]]), "compound 0"),
])
def test_refuses(bad, message):
    with pytest.raises(InputError, match=message):
        bad()


# order

@PROFILE
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 3))
def test_order_free_count_ignores_order_and_never_rises(seed, m, decimals):
    rng = np.random.default_rng(seed)
    r = random_matrices(rng, m, 3, decimals)  # one decimal: many ties between distances
    counts = cecv_order.count_complete({3: (None, r)})
    assert (np.diff(counts) <= 0).all()
    assert (cecv_order.count_complete({3: (None, r[rng.permutation(m)])}) == counts).all()


@PROFILE
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 3))
def test_bounds_enclose_every_order(seed, m, decimals):
    rng = np.random.default_rng(seed)
    group = {n: (None, random_matrices(rng, m, n, decimals)) for n in (3, 4)}
    lower, upper = cecv_order.covering_bounds(group)
    counts = cecv_order.random_orders(group, n_orders=10, seed=rng)
    assert (lower <= counts).all() and (counts <= upper).all()
    assert (np.diff(lower) <= 0).all()


def test_greedy_depends_on_the_order():
    row = of_entry(3, 0.0, 0.125, 0.25)
    assert cecv.count_clusters(row, 0.125) == 2 and cecv.count_clusters(row[[1, 0, 2]], 0.125) == 1
    assert set(cecv_order.random_orders({3: (None, row)}, (0.125,))[:, 0]) == {1, 2}


# correlations

features = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(3, 7), st.just(24)),
                  elements=st.integers(-50, 50).map(float))


@PROFILE
@given(features, st.integers(0, 1000))
def test_scaling_and_shifting_features_changes_nothing(x, seed):
    rng = np.random.default_rng(seed)
    scale, shift = 2.0 ** rng.integers(-4, 5, 24), rng.integers(-8, 9, 24).astype(float)  # exact in binary
    assert np.allclose(cecv.pearson_matrices(x * scale + shift), cecv.pearson_matrices(x), atol=1e-12)
    assert np.allclose(cecv.pearson_matrices(-x), cecv.pearson_matrices(x), atol=1e-12)


@PROFILE
@given(features)
def test_matrices_are_correlations(x):
    r = cecv.pearson_matrices(x)
    assert (r == r.swapaxes(1, 2)).all() and (np.abs(r) <= 1).all()
    assert (np.einsum("mnn->mn", r) == 1).all()
    constant = np.concatenate([x, np.full((*x.shape[:2], 2), 3.0)], axis=2)
    assert np.allclose(cecv.pearson_matrices(constant), r, atol=1e-12)


def test_equals_numpy_and_does_not_depend_on_company(monkeypatch):
    x = np.random.default_rng(0).normal(size=(40, 5, 32)).astype(np.float32)
    r = cecv.pearson_matrices(x)
    for xi, ri in zip(x.astype(float), r, strict=True):
        assert np.allclose(np.corrcoef((xi - xi.mean(0)) / xi.std(0, ddof=1)), ri, atol=1e-12)
    monkeypatch.setattr(cecv, "_BLOCK", 3 * 5 * 32)
    assert (cecv.pearson_matrices(x) == r).all()
    assert (cecv.pearson_matrices(x[7:8]) == r[7:8]).all()


def test_rounding_noise_is_constant():
    x = np.random.default_rng(0).normal(size=(1, 4, 16)).astype(np.float32)
    dead = np.full((1, 4, 8), 0.3, np.float32)
    dead[0, 1] = np.nextafter(np.float32(0.3), np.float32(1))
    assert np.allclose(cecv.pearson_matrices(np.concatenate([x, dead], 2)), cecv.pearson_matrices(x), atol=1e-12)


def test_rows_without_variation_correlate_with_nothing():
    assert (cecv.pearson_matrices(np.full((1, 3, 5), 2.0))[0] == np.eye(3)).all()
    r = cecv.pearson_matrices([[[1.0, 0, 3], [2, 1, 4], [3, 2, 5]]])[0]
    assert (r == np.eye(3)).all()  # all three rows of Z are constant


def test_two_elements_are_always_opposite():
    x = np.random.default_rng(0).normal(size=(30, 2, 40))
    assert np.allclose(cecv.pearson_matrices(x)[:, 0, 1], -1)


@PROFILE
@given(features)
def test_other_similarities_are_bounded_and_symmetric(x):
    for make in (cecv.cosine_matrices, cecv.euclid_matrices):
        r = make(x)
        assert (r == r.swapaxes(1, 2)).all() and (np.abs(r) <= 1).all()
        assert np.allclose(np.einsum("mnn->mn", r), 1)


def test_euclid_spans_zero_to_one():
    for n in range(3, 8):
        x = np.zeros((1, n, 6))
        x[0, 0], x[0, -1] = 1, -1  # the farthest that two of n standardised values can be
        r = cecv.euclid_matrices(x)[0]
        assert np.isclose(r[0, -1], 0) and np.isclose(r[1, 1], 1)


# whole

FORMULAS = ["Mg2SiO4", "CaSiO3", "SiO2", "MgSiO3", "NaAlSi3O8", "Mg2Si2O6", "CaTiO3", "KAlSi3O8", "CaMgSi2O6",
            "LiAlSi2O6", "Na2SiO3", "CaCu2Si2", "K2SiF6", "NaCaAlSiO4F", "Fe2SiO4"]


def by_hand(formulas, element, layer, sizes=range(3, 8)):
    """Count compound by compound, with numpy's own correlations."""
    groups, seen = {}, set()
    for f in formulas:
        c = featurize([f])
        n, key = int(c.n_elements[0]), (*c.numbers, *c.fractions)
        if cecv.ATOMIC_NUMBER[element] not in c.numbers or n not in sizes or key in seen:
            continue
        seen.add(key)
        x = StandIn().embed([f], layer)[0][0].astype(float)
        groups.setdefault(n, []).append(np.corrcoef((x - x.mean(0)) / x.std(0, ddof=1)))
    return {n: [count_plainly(np.array(r), t) for t in cecv.THRESHOLDS] for n, r in groups.items()}


@pytest.mark.parametrize("element", ["Si", "O", "Al"])
@pytest.mark.parametrize("layer", ["input", "output"])
def test_compute_by_hand(element, layer):
    result, expected = cecv.compute(StandIn(), FORMULAS, element, layer), by_hand(FORMULAS, element, layer)
    assert {n: c.tolist() for n, c in result.per_size.items()} == expected
    assert (result.counts == np.sum(list(expected.values()), axis=0)).all()
    assert (result.values == result.counts / result.n_compounds).all()


def test_compounds_are_compositions():
    si = cecv.compute(StandIn(), FORMULAS)
    assert si.n_compounds == 12 and si.n_per_size == {3: 7, 4: 4, 6: 1}  # MgSiO3 twice, SiO2 and CaTiO3 out
    assert si.n_left_out == 1
    again = cecv.compute(StandIn(), [*FORMULAS, "Si2Ca2O6", "O4Mg2Si"])
    assert (again.counts == si.counts).all() and again.n_compounds == 12
    assert cecv.compute(StandIn(), FORMULAS, sizes=[4, 3]).n_left_out == 2


def test_sweep_equals_compute():
    env = cecv.environments(StandIn(), FORMULAS, batch=3)
    results = cecv.sweep(env)
    assert {(r.element, r.layer) for r in results} == {(e, lay) for e in env.elements() for lay in env.matrices}
    for r in results:
        assert (r.counts == cecv.compute(StandIn(), FORMULAS, r.element, r.layer).counts).all()
    assert len(cecv.to_frame(results)) == len(results) * len(cecv.THRESHOLDS)
    assert {r.element for r in cecv.sweep(env, least=3)} == {e for e, n in env.elements().items() if n >= 3}


def test_one_pass_for_all_layers():
    class Counting(StandIn):
        calls = 0

        def embed_layers(self, formulas, layers):
            Counting.calls += 1
            return {name: self.embed(formulas, name)[0] for name in layers}, None

    env = cecv.environments(Counting(), FORMULAS, sizes=[3, 4])
    assert Counting.calls == 2
    plain = cecv.environments(StandIn(), FORMULAS, sizes=[3, 4])
    assert all((env.matrices[k][n] == plain.matrices[k][n]).all() for k in ("input", "output") for n in (3, 4))


def test_element_first():
    env = cecv.environments(StandIn(), FORMULAS, layers=["input"])
    amount, first = env.group("Si", "input"), env.group("Si", "input", "element")
    for n, (rows, r) in amount.items():
        for k, row in enumerate(rows):
            z = env.compositions[row].numbers.tolist()
            order = [z.index(14), *(i for i in range(n) if z[i] != 14)]
            assert (first[n][1][k] == r[k][np.ix_(order, order)]).all()


@pytest.mark.parametrize("options, message", [
    (dict(element="Xe"), "no compound contains Xe: most frequent are Si, O"),
    (dict(element="Sx"), "unknown element 'Sx'"),
    (dict(element="Ti", sizes=[4]), "no compound of 4 elements contains Ti"),
    (dict(layer="gru"), "unknown layer 'gru'.*input, output"),
    (dict(sizes=range(2, 8)), "correlation is -1 in every network"),
    (dict(sizes=[1, 3]), "begin sizes at 3"),
    (dict(sizes=[]), "sizes is empty"),
    (dict(thresholds=[-0.1]), "zero or positive"),
    (dict(thresholds=[]), "thresholds"),
    (dict(alignment="alphabet"), "unknown alignment"),
    (dict(similarity="spearman"), "unknown similarity"),
])
def test_compute_refuses(options, message):
    with pytest.raises(InputError, match=message):
        cecv.compute(StandIn(), FORMULAS, **options)


def test_compute_on_nothing():
    with pytest.raises(InputError, match="no compound contains Si: most frequent are none"):
        cecv.compute(StandIn(), [])
    single = cecv.compute(StandIn(), ["MgSiO3"])
    assert single.counts.tolist() == [1] * 8 and single.values.tolist() == [1.0] * 8


# the reference's count

def count_with_dictionaries(r, t):
    compounds, count = dict(enumerate(r)), 0
    for seed in compounds.values():
        if len(compounds) <= 1: break
        three = lambda a, b: np.abs(np.abs(a) - np.abs(b)).max() < t
        more = lambda a, b: np.abs(a - b).max() <= t
        taken = [k for k, other in compounds.items() if (three if len(seed) == 3 else more)(seed, other)]
        compounds = {k: other for k, other in compounds.items() if k not in taken}
        count += len(taken) > 0
    return count + (len(compounds) > 0)


NAN = np.full((1, 3, 3), np.nan)
NAN4 = np.full((1, 4, 4), np.nan)


@pytest.mark.parametrize("detail, matrices, t, count", [
    ("three: without signs", of_entry(3, 0.5, -0.5), 0.25, 1),
    ("three: the difference of sizes counts", of_entry(3, -0.9, 0.5), 0.25, 2),
    ("three: strictly", of_entry(3, 0.25, 0.5), 0.25, 2),
    ("four: with signs", of_entry(4, 0.5, -0.5), 0.25, 2),
    ("four: lower does not take all that is higher", of_entry(4, -0.9, 0.9), 0.05, 2),
    ("four: t itself is near", of_entry(4, 0.25, 0.5), 0.25, 1),
    ("seven: with signs", of_entry(7, -0.5, 0.5), 0.25, 2),
    ("NaN is not near to itself, but left over", NAN, 0.4, 1),
    ("all that is left over is one cluster", np.concatenate([NAN, NAN, of_entry(3, 0.1)]), 0.4, 2),
    ("the same for four", np.concatenate([NAN4, of_entry(4, 0.1), NAN4, NAN4]), 0.4, 2),
    ("one free compound ends the loop and counts", of_entry(3, 0.1, 0.9), 0.1, 2),
    ("none", np.zeros((0, 3, 3)), 0.1, 0),
    ("a taken compound seeds another cluster", of_entry(4, 0.0, 0.1, 0.2), 0.15, 2),
])
def test_legacy_details_by_hand(detail, matrices, t, count):
    assert cecv_legacy.count_as_reference(matrices, t) == count, detail


def test_a_taken_compound_seeds_in_the_reference_alone():
    r = of_entry(4, 0.0, 0.1, 0.2, 0.2)
    r[:, 0, 2] = r[:, 2, 0] = 0.0, 0.0, -0.07, 0.07  # the last two are apart from each other, both near to the second
    assert (cecv_legacy.count_as_reference(r, 0.11), clusters.count_clusters(r, 0.11)) == (2, 3)


def test_legacy_takes_each_spelling_once():
    written = ["Mg2SiO4", "Mg4Si2O8", "Mg2SiO4", "CaSiO3"]
    assert cecv.compute(StandIn(), written, similarity="legacy").n_compounds == 3
    assert cecv.compute(StandIn(), written).n_compounds == 2


def test_legacy_sums_three_to_seven_elements():
    written = ["SiO2", "MgSiO3", "CaMgSi2O6", "NaCaMgSi2O6", "LiNaCaMgSiO4", "KLiNaCaMgSiO4", "BKLiNaCaMgSiO4"]
    found = cecv.compute(StandIn(), written, similarity="legacy")
    assert found.n_per_size == dict.fromkeys(range(3, 8), 1) and found.counts.tolist() == [5] * 8 and found.n_left_out == 2


@PROFILE
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(3, 7))
def test_legacy_equals_the_dictionaries(seed, m, n):
    r = random_matrices(np.random.default_rng(seed), m, n, 1)
    for t in (0.1, 0.25, 0.4):
        assert cecv_legacy.count_as_reference(r, t) == count_with_dictionaries(r, t)


def test_legacy_compute_uses_the_reference_count():
    legacy = cecv.compute(StandIn(), FORMULAS, similarity="legacy")
    group = cecv.environments(StandIn(), FORMULAS, ["output"], similarity="legacy").group("Si", "output")
    assert legacy.counts.tolist() == [sum(count_with_dictionaries(r, t) for _, r in group.values())
                                      for t in cecv.THRESHOLDS]
    assert (legacy.n_compounds, cecv.compute(StandIn(), FORMULAS).n_compounds) == (13, 12)  # spellings, compositions


def test_compute_reads_each_formula_once(monkeypatch):
    class Reader(StandIn):
        def embed_layers(self, compositions, layers):
            assert not isinstance(compositions, list)
            found = {layer: self.embed(compositions, layer) for layer in layers}
            return {layer: x for layer, (x, _) in found.items()}, None

    read, plain = [], cecv.compute(StandIn(), FORMULAS)
    monkeypatch.setattr(cecv, "featurize", lambda formulas, read_all=featurize: read.append(len(formulas)) or read_all(formulas))
    monkeypatch.setitem(globals(), "featurize", lambda c: c)  # the network is handed compositions
    found = cecv.compute(Reader(), FORMULAS)
    assert read == [len(FORMULAS)] and np.array_equal(found.counts, plain.counts)


# cost

def test_eight_thresholds_of_800_compounds_are_quick():
    rng = np.random.default_rng(0)
    features = {n: rng.normal(size=(160, n, 512)).astype(np.float32) for n in range(3, 8)}
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        matrices = [cecv.pearson_matrices(x) for x in features.values()]
        [sum(cecv.count_clusters(r, t) for r in matrices) for t in cecv.THRESHOLDS]
        best = min(best, time.perf_counter() - start)
    assert best < 0.5  # 0.07 s on one quiet core; room for busy machines


def test_memory_is_bounded_for_50_000_compounds():
    r = random_matrices(np.random.default_rng(0), 50_000, 3, 3)
    tracemalloc.start()
    count = cecv.count_clusters(r, 0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 < count < 5000
    assert peak < 100e6, peak  # all distances would be 20 GB
