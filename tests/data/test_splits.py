"""Splits: complete, disjoint, reproducible, and Matbench's folds as Matbench publishes them."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.composition import composition_keys
from lgdcnn.config import InputError
from lgdcnn.data.splits import Split, matbench_splits, split_by_composition

# Test rows of fold 0 of matbench_steels, counted from one: matbench/tests/msonability_matbench_steels.json
STEELS_FOLD_0 = [
    3,
    5,
    20,
    26,
    27,
    32,
    35,
    41,
    45,
    46,
    64,
    66,
    68,
    71,
    72,
    76,
    77,
    89,
    93,
    96,
    104,
    106,
    108,
    111,
    120,
    122,
    128,
    133,
    138,
    141,
    146,
    161,
    174,
    175,
    177,
    179,
    181,
    182,
    196,
    209,
    210,
    225,
    232,
    234,
    242,
    244,
    252,
    254,
    257,
    266,
    267,
    269,
    272,
    273,
    275,
    281,
    283,
    290,
    294,
    300,
    303,
    309,
    310,
]

# Rows, sizes of the five test folds, first test rows of fold 0, and a digest of all five test folds
FOLDS = {
    "steels": (312, [63, 63, 62, 62, 62], [2, 4, 19, 25], "09d8a9cd4b969117"),
    "jdft2d": (636, [128, 127, 127, 127, 127], [11, 13, 26, 30], "a6422a222bc465e0"),
    "phonons": (1265, [253] * 5, [1, 2, 6, 9], "cb7673cb6466b399"),
    "expt_gap": (4604, [921, 921, 921, 921, 920], [7, 9, 18, 29], "a13d13fff213b18b"),
    "dielectric": (4764, [953, 953, 953, 953, 952], [7, 9, 18, 24], "11eaf3818ce5478e"),
    "log_gvrh": (10987, [2198, 2198, 2197, 2197, 2197], [5, 9, 39, 46], "c80a4f70ae3da22b"),
    "perovskites": (18928, [3786, 3786, 3786, 3785, 3785], [5, 10, 20, 33], "b40d2a6fcb05b6de"),
    "mp_gap": (106113, [21223, 21223, 21223, 21222, 21222], [2, 3, 10, 17], "361074b1a20a20d7"),
    "mp_e_form": (132752, [26551, 26551, 26550, 26550, 26550], [3, 7, 10, 17], "6b8bfc5b95fd2f14"),
}

pairs = st.lists(
    st.sampled_from(["NaCl", "ClNa", "Na2Cl2", "MgO", "KCl", "CaO", "Si", "Si2", "GaAs", "Fe2O3", "Fe4O6", "BN"]),
    min_size=12,
    max_size=60,
).filter(lambda f: len(set(composition_keys(f))) >= 5)


def digest(arrays) -> str:
    return hashlib.sha256(b"|".join(a.astype("<i8").tobytes() for a in arrays)).hexdigest()[:16]


def whole(n: int):
    """n different compositions."""
    return [f"Fe{i + 1}C" for i in range(n)]


@given(pairs, st.integers(0, 3))
def test_split_by_composition_is_a_partition_that_respects_compositions(formulas, seed):
    s, key = split_by_composition(formulas, seed=seed), composition_keys(formulas)
    assert sorted(np.concatenate([s.train, s.val, s.test])) == list(range(len(formulas)))
    assert not set(key[s.train]) & set(key[s.test]) and not set(key[s.train]) & set(key[s.val])
    assert not set(key[s.val]) & set(key[s.test])
    assert len(s.train) and len(s.val) and len(s.test)


def test_split_depends_on_the_seed_only():
    a, b, c = (split_by_composition(whole(50), seed=k) for k in (0, 0, 1))
    assert np.array_equal(a.test, b.test) and not np.array_equal(a.test, c.test)
    assert [len(a.train), len(a.val), len(a.test)] == [35, 5, 10]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (-0.1, 0.2), (0.1, 1.0)])
def test_impossible_shares(fractions):
    with pytest.raises(InputError, match="add to less than 1"):
        split_by_composition(whole(10), fractions)


@pytest.mark.parametrize("formulas", [[], ["NaCl"], ["NaCl", "KCl"]])
def test_too_few_compositions(formulas):
    with pytest.raises(InputError, match="too few to split|one composition"):
        split_by_composition(formulas)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_parts_are_the_inverse_of_from_parts(parts):
    assert Split.from_parts(np.array(parts)).parts(len(parts)).tolist() == parts


def test_matbench_steels_fold_is_the_published_one():
    assert (matbench_splits(np.zeros(312))[0].test + 1).tolist() == STEELS_FOLD_0


@pytest.mark.parametrize("name", FOLDS)
def test_matbench_folds_by_number(name):
    n, sizes, first, tests = FOLDS[name]
    folds = matbench_splits(np.zeros(n))
    assert [len(s.test) for s in folds] == sizes
    assert folds[0].test[:4].tolist() == first
    assert digest([s.test for s in folds]) == tests


@settings(max_examples=30)
@given(st.integers(12, 200))
def test_matbench_validation_is_a_tenth_of_the_training_rows(n):
    for s in matbench_splits(np.zeros(n)):
        assert sorted(np.concatenate([s.train, s.val, s.test])) == list(range(n))
        assert len(s.val) == max(1, round(0.1 * (n - len(s.test))))


def test_matbench_validation_depends_on_the_number_of_rows_only():
    a, b = matbench_splits(np.zeros(500)), matbench_splits(np.arange(500.0))
    assert all(np.array_equal(s.val, t.val) for s, t in zip(a, b, strict=True))
    assert len({s.val.tobytes() for s in a}) == 5


def test_stratified_folds_keep_the_classes_in_proportion():
    y = np.arange(1000) % 10 == 0
    assert [int(y[s.test].sum()) for s in matbench_splits(y, "classification")] == [20] * 5
    with pytest.raises(InputError, match="unknown task"):
        matbench_splits(np.zeros(10), "ranking")
