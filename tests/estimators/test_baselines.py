"Features against an independent implementation, and what any baseline must keep."
import csv
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from lgdcnn.composition import SYMBOLS
from lgdcnn.config import InputError
from lgdcnn.elements import magpie_properties
from lgdcnn.estimators.baselines import (
    BASELINES,
    ElemNetRegressor,
    GradientBoosting,
    LightGBM,
    NearestNeighbour,
    RandomForest,
)
from lgdcnn.estimators.features import STATISTICS, element_fractions, magpie_features, magpie_names, mendeleev_cumulated

parts = st.dictionaries(st.sampled_from(SYMBOLS[1:]), st.integers(1, 40), min_size=1, max_size=8)
def loadable(name):
    try: __import__(name)
    except (ImportError, OSError): return False  # OSError: the wheel expects the system's OpenMP library
    return True


NAMES = [pytest.param(n, marks=pytest.mark.skipif(not loadable("lightgbm"), reason="LightGBM is an extra"))
         if n == "lightgbm" or n.startswith("trees-") else n for n in BASELINES if n != "trees-class"]  # of numbers
SMALL = {"mean": {}, "nearest-neighbour": {}, "random-forest": {"n_trees": 5}, "random-forest-magpie": {"n_trees": 5},
         "gradient-boosting": {"n_trees": 5}, "lightgbm": {"n_trees": 5}, "elemnet": {"epochs": 1, "device": "cpu"},
         **{f"trees-{kind}": {"n_trees": 5} for kind in ("l1", "l2", "extra")}}


def text(p, factor=1):
    return "".join(f"{s}{n * factor}" for s, n in p.items())


def test_magpie_features_are_matminers(root):
    """tests/data/magpie_features.csv was written by matminer 0.10.1: Stoichiometry(), ElementProperty's preset "magpie"
    (with imputation) and ValenceOrbital(props=["frac"]), for formulas with ties, 13 elements and unknown properties."""
    with open(root / "tests" / "data" / "magpie_features.csv", newline="") as f: header, *rows = csv.reader(f)
    names = [n.removeprefix("MagpieData ") for n in header[1:]]
    ours = magpie_features([row[0] for row in rows])
    assert magpie_names()[:142] == names and len(rows) == 16
    assert np.allclose(ours[:, :142], np.array([row[1:] for row in rows], float), rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(parts, min_size=1, max_size=5), st.integers(2, 9))
def test_features_are_of_the_composition(ps, factor):
    x = magpie_features([text(p) for p in ps])
    assert np.isfinite(x).all()
    assert np.allclose(x, magpie_features([text(dict(reversed(p.items())), factor) for p in ps]), rtol=1e-5, atol=1e-5)
    assert np.allclose(x, np.concatenate([magpie_features([text(p)]) for p in ps]), rtol=1e-5, atol=1e-5)
    s = x[:, 6:138].reshape(len(ps), 22, 6)
    low, high, extent, mean, deviation, mode = (s[:, :, STATISTICS.index(k)] for k in STATISTICS)
    slack = 1e-3 + 1e-5 * np.abs(high)
    assert (low <= mean + slack).all() and (mean <= high + slack).all() and (deviation <= extent + slack).all()
    assert (low <= mode).all() and (mode <= high).all()


@settings(max_examples=50, deadline=None)
@given(parts, parts)
def test_distance_is_the_earth_movers(a, b):
    order = np.argsort(magpie_properties()["MendeleevNumber"], kind="stable")
    x, y = element_fractions([text(a), text(b)])[:, order]
    u, v = mendeleev_cumulated([text(a), text(b)])
    assert np.isclose(np.abs(u - v).sum(), wasserstein_distance(np.arange(118), np.arange(118), x, y), atol=1e-9)


@pytest.fixture(scope="module")
def some(embedded):
    return tuple(a[:150] for a in embedded.part("train"))


@pytest.mark.parametrize("name", NAMES)
def test_every_baseline_keeps_the_interface(name, some):
    make = lambda: BASELINES[name](**SMALL[name])
    formulas, y = some
    model = make().fit(formulas, y)
    predicted = model.predict(["Fe2O3", "NaCl", "Og"])
    assert predicted.shape == (3,) and predicted.dtype == np.float64 and np.isfinite(predicted).all()
    assert np.allclose(predicted[:2], model.predict(["O6Fe4", "Cl3Na3"]), atol=1e-6)
    assert np.array_equal(predicted, make().fit(formulas, y).predict(["Fe2O3", "NaCl", "Og"]))
    assert np.array_equal(predicted, pickle.loads(pickle.dumps(model)).predict(["Fe2O3", "NaCl", "Og"]))
    with pytest.raises(InputError): make().fit(formulas, y[:-1])
    with pytest.raises(InputError, match="row 1"): make().fit(["Fe", "Xy"], [1.0, 2.0]) if name != "mean" else \
        make().fit(["Fe", "Xy"], [1.0, None])


@pytest.mark.parametrize("name", [n for n in NAMES if n != "elemnet"])
@pytest.mark.parametrize("scale", [2.0 ** -30, 2.0 ** 30])
def test_the_unit_does_not_matter(name, scale, some):
    "Powers of two, so that trees that break ties by the last digit break them in the same way."
    formulas, y = some
    fit = lambda target: BASELINES[name](**SMALL[name]).fit(formulas, target).predict(formulas)
    assert np.allclose(fit(scale * y) / scale, fit(y), atol=1e-9)


def test_the_nearest_neighbour_recalls_and_knows_groups():
    model = NearestNeighbour().fit(["NaCl", "GaAs", "Fe2O3"], [1.0, 2.0, 3.0])
    assert np.allclose(model.predict(["Na2Cl2", "KBr", "InSb", "Cr2O3"]), [1, 1, 2, 3])
    assert np.isclose(NearestNeighbour(k=2).fit(["NaCl", "KBr", "Fe"], [1.0, 2.0, 9.0]).predict(["NaCl"])[0], 1)
    for k in (0, 4):
        with pytest.raises(InputError, match=f"k = {k}"): NearestNeighbour(k).fit(["NaCl", "KBr", "Fe"], [1.0, 2.0, 3.0])


def test_magpie_beats_fractions_on_new_compounds(embedded):
    (formulas, y), (test, y_test) = (tuple(a[:n] for a in embedded.part(w)) for w, n in (("train", 300), ("test", 300)))
    error = lambda m: np.abs(m.fit(formulas, y).predict(test) - y_test).mean()
    assert error(RandomForest(30, features="magpie")) < 0.7 * error(RandomForest(30))
    assert error(GradientBoosting(100)) < 0.7 * error(BASELINES["mean"]())


def test_lightgbm_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(InputError, match=r"lgdcnn\[peers\].*gradient-boosting"): LightGBM().fit(["Fe", "O2"], [1.0, 2.0])


@pytest.mark.parametrize("model", [ElemNetRegressor(), RandomForest()])
def test_predicting_before_training_is_refused(model):
    with pytest.raises(InputError, match="call fit"): model.predict(["Fe"])


def test_unknown_features_are_named():
    with pytest.raises(InputError, match="did you mean 'magpie'"): RandomForest(features="magpi").fit(["Fe"], [1.0])


def test_elemnet_learns(some):
    formulas, y = some
    model = ElemNetRegressor(epochs=25, device="cpu", batch_size=50).fit(formulas, y)
    assert np.abs(model.predict(formulas) - y).mean() < 0.9 * np.abs(y - y.mean()).mean()
