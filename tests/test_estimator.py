"The estimator keeps its contract: order, unit, spelling, files, intervals, refusals."
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from lgdcnn import InputError, LGDCNNRegressor, load_dataset
from lgdcnn.composition import SYMBOLS
from lgdcnn.estimator import conformal_multiple

parts = st.dictionaries(st.sampled_from(SYMBOLS[1:95]), st.integers(1, 30), min_size=1, max_size=6)


def text(part, factor=1):
    return "".join(f"{s}{n * factor}" for s, n in part.items())


@settings(max_examples=25, deadline=None)
@given(st.lists(parts, min_size=1, max_size=6), st.integers(2, 7))
def test_spelling_scale_and_company(fitted, formulas, factor):
    tolerance = 1e-5 * fitted.target_std_
    base = fitted.predict([text(p) for p in formulas])
    respelled = [text(dict(reversed(p.items())), factor) for p in formulas]
    assert np.allclose(base, fitted.predict(respelled), atol=tolerance, rtol=0)
    assert np.allclose(base, fitted.predict(["Fe8Cr2Ni1Mn1Si1Mo1V1C1", *map(text, formulas)])[1:], atol=tolerance, rtol=0)
    assert np.allclose(base, [fitted.predict(text(p))[0] for p in formulas], atol=tolerance, rtol=0)


def test_shapes_types_and_order(fitted):
    mean, std = fitted.predict(pd.Series(["NaCl", "Fe2O3", "NaCl"]), return_std=True)
    assert mean.dtype == np.float64 and mean.shape == std.shape == (3,)
    assert mean[0] == pytest.approx(mean[2], abs=1e-6) and mean[0] != mean[1] and (std > 0).all()
    interval = fitted.predict_interval(["NaCl", "Fe2O3"])
    assert interval.shape == (2, 2) and (interval[:, 0] < mean[:2]).all() and (mean[:2] < interval[:, 1]).all()


def test_wider_coverage_wider_interval(fitted):
    width = [np.ptp(fitted.predict_interval(["NaCl"], c)) for c in (0.5, 0.8, 0.9)]
    assert width == sorted(width) and width[0] < width[-1]


def test_saved_and_loaded_it_is_the_same(fitted, embedded, tmp_path):
    formulas, _ = embedded.part("test")
    path = fitted.save(tmp_path / "a.lgdcnn")
    again = LGDCNNRegressor.load(path)
    assert np.array_equal(again.predict(formulas), fitted.predict(formulas))
    assert np.array_equal(again.predict_interval(formulas, 0.8), fitted.predict_interval(formulas, 0.8))
    assert again.history_ == fitted.history_ and again.config_ == fitted.config_
    assert [p.name for p in tmp_path.iterdir()] == ["a.lgdcnn"]


def test_same_seed_same_predictions(small_config, embedded):
    formulas, y = (a[:100] for a in embedded.part("train"))
    make = lambda seed: LGDCNNRegressor(small_config, epochs=2, seed=seed, verbose=False).fit(formulas, y).predict(["Fe2O3"])
    assert make(0) == make(0) != make(1)


def test_several_networks_are_a_mixture(small_config, embedded):
    formulas, y = (a[:100] for a in embedded.part("train"))
    options = {"architecture": small_config, "epochs": 2, "verbose": False}
    held = tuple(a[:20] for a in embedded.part("val"))
    both = LGDCNNRegressor(n_models=2, seed=3, **options).fit(formulas, y, held)
    single = [LGDCNNRegressor(seed=s, **options).fit(formulas, y, held) for s in (3, 4)]
    (m1, s1), (m2, s2) = (m.predict(["Fe2O3", "NaCl"], return_std=True) for m in single)
    mean, std = both.predict(["Fe2O3", "NaCl"], return_std=True)
    assert np.allclose(mean, (m1 + m2) / 2, atol=1e-6)
    assert np.allclose(std ** 2, (s1 ** 2 + s2 ** 2) / 2 + (m1 - m2) ** 2 / 4, rtol=1e-5)


def test_targets_in_other_units(small_config, embedded):
    "Scaling and shifting the target scales and shifts predictions; the network sees the same numbers."
    formulas, y = (a[:100] for a in embedded.part("train"))
    fit = lambda t: LGDCNNRegressor(small_config, epochs=2, verbose=False).fit(formulas, t).predict(["Fe2O3", "NaCl"], True)
    (mean, std), (mean_k, std_k) = fit(y), fit(1000 * y + 7)
    assert np.allclose(mean_k, 1000 * mean + 7, atol=1e-2) and np.allclose(std_k, 1000 * std, rtol=1e-4)


def test_constant_targets_do_not_divide_by_zero(small_config):
    m = LGDCNNRegressor(small_config, epochs=2, verbose=False).fit(["NaCl", "KCl", "LiF", "MgO"], [2.0] * 4, validation=0)
    assert (m.target_mean_, m.target_std_) == (2.0, 1.0) and np.isfinite(m.predict(["NaCl"], return_std=True)).all()


def test_a_failed_refit_leaves_no_half_model(small_config, monkeypatch):
    import lgdcnn.estimator
    m = LGDCNNRegressor(small_config, epochs=1, n_models=2, verbose=False).fit(["NaCl", "KCl"], [1, 2], 0)
    before = m.predict(["NaCl"])
    with pytest.raises(InputError): m.fit(["NaCl", "KClx"], [1, 2])
    assert np.array_equal(m.predict(["NaCl"]), before), "input that is refused at once leaves the model as it was"
    def broken(*args): raise RuntimeError
    monkeypatch.setattr(lgdcnn.estimator, "fit_network", broken)
    with pytest.raises(RuntimeError): m.fit(["NaCl", "KCl"], [1, 2], 0)
    with pytest.raises(InputError, match="not trained"): m.predict(["NaCl"])


def test_trained_and_held_out_rows_must_differ(small_config):
    with pytest.warns(UserWarning, match="1 compositions of the validation rows are also trained on"):
        LGDCNNRegressor(small_config, epochs=1, verbose=False).fit(["NaCl", "KCl"], [1, 2], (["ClNa", "LiF"], [1, 2]))


def test_generators_and_tables():
    from lgdcnn.tables import check_formulas, check_targets
    assert check_targets((v for v in (1, 2)), 2).tolist() == [1, 2]
    with pytest.raises(InputError, match="one column, not a table"): check_formulas(pd.DataFrame({"formula": ["NaCl"]}))


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 200), st.sampled_from([0.5, 0.8, 0.9]), st.integers(0, 10 ** 6))
def test_the_multiple_covers_its_own_rows(n, coverage, seed):
    scores = np.random.default_rng(seed).exponential(size=n)
    q = conformal_multiple(scores, coverage)
    assert (scores <= q).mean() >= coverage
    assert ((scores < q).sum()) < coverage * (n + 1)


def test_coverage_on_new_rows():
    "For exchangeable scores, coverage averaged over calibration sets is the nominal one, or barely above."
    rng = np.random.default_rng(0)
    hits = [(rng.exponential(size=100) <= conformal_multiple(rng.exponential(size=60), 0.8)).mean() for _ in range(2000)]
    assert 0.8 - 0.005 < np.mean(hits) < 0.8 + 1 / 61 + 0.005


def test_scikit_learns_habits(small_config):
    m = LGDCNNRegressor(small_config, epochs=3, seed=7)
    twin = clone(m)
    assert twin is not m and twin.get_params() == m.get_params()
    assert m.set_params(seed=8).seed == 8


def test_embedding_shows_layers_of_real_elements(fitted):
    features, mask = fitted.embed(["NaCl", "LiFePO4"], "gru")
    assert features.shape == (2, 4, 32) and features.dtype == np.float32
    assert mask.tolist() == [[True, True, False, False], [True] * 4] and (features[0, 2:] == 0).all()
    assert np.array_equal(fitted.embed(["NaCl"])[0], fitted.embed(["NaCl"], "dcnn")[0])
    alone, _ = fitted.embed(["NaCl"], "gru")
    assert np.allclose(alone[0], features[0, :2], atol=1e-5)
    with pytest.raises(InputError, match="known are input, lstm"): fitted.embed(["NaCl"], "encoder")


BAD_FITS = {
    "unequal lengths": (["NaCl", "KCl"], [1.0], {}, "2 formulas but 1 targets"),
    "empty": ([], [], {}, "no formulas"),
    "NaN": (["NaCl", "KCl"], [1.0, float("nan")], {}, "row 1: the target is nan"),
    "infinite": (["NaCl", "KCl"], [float("inf"), 1.0], {}, "row 0: the target is inf"),
    "text": (["NaCl", "KCl"], ["1", "n/a"], {}, "row 1: the target is 'n/a'"),
    "none": (["NaCl", "KCl"], [None, 1], {}, "row 0: the target is None"),
    "matrix": (["NaCl", "KCl"], [[1, 2], [3, 4]], {}, "one number for each formula"),
    "formula": (["NaCl", "KClx"], [1, 2], {}, "row 1: cannot read formula 'KClx'"),
    "unknown element": (["NaCl", "XxO"], [1, 2], {}, "row 1: .*not an element"),
    "missing formula": (["NaCl", None], [1, 2], {}, "row 1: .*expected a string"),
    "fraction": (["NaCl", "KCl"], [1, 2], {"validation": 1.5}, r"must be a fraction in \[0, 1\)"),
    "fraction as text": (["NaCl", "KCl"], [1, 2], {"validation": "x"}, "must be a fraction"),
    "huge": (["NaCl", "KCl", "LiF"], [1e300, -1e300, 0], {"validation": 0}, "too large"),
    "held-out pair": (["NaCl", "KCl"], [1, 2], {"validation": (["LiF"], [1, 2])}, "1 formulas but 2 targets"),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_bad_input_is_refused(case, small_config):
    formulas, y, options, message = BAD_FITS[case]
    model = LGDCNNRegressor(small_config, epochs=1, verbose=False)
    with pytest.raises(InputError, match=message): model.fit(formulas, y, **options)
    with pytest.raises(InputError, match="not trained"): model.predict(["NaCl"])


@pytest.mark.parametrize("options, message", [
    ({"architecture": "l-g-dnn"}, "did you mean 'l-g-dcnn'"), ({"protocol": "fats"}, "did you mean 'fast'"),
    ({"epochs": 0}, "epochs = 0"), ({"epochs": 1.5}, "epochs = 1.5"), ({"n_models": 0}, "n_models = 0"),
    ({"n_models": 1.5}, "n_models = 1.5"), ({"seed": -1}, "seed = -1"), ({"device": "warp"}, "warp"),
    ({"precision": "fp8"}, "fp8")])
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        LGDCNNRegressor(**{"architecture": "dcnn-k1", "epochs": 1, "verbose": False, **options}).fit(["NaCl", "KCl"], [1, 2], 0)


def test_intervals_need_enough_held_out_rows(small_config):
    m = LGDCNNRegressor(small_config, epochs=1, verbose=False).fit(["NaCl", "KCl", "LiF", "MgO"], [1, 2, 3, 4], validation=0)
    with pytest.raises(InputError, match="there are 0: train with some rows held out"): m.predict_interval(["NaCl"])
    for c in (0, 1, 1.2, -0.1):
        with pytest.raises(InputError, match="between 0 and 1"): m.predict_interval(["NaCl"], c)


def damaged(path, kind):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    if kind == "truncated": return data[: len(data) // 2]
    if kind == "empty": return b""
    if kind == "text": return b"formula,target\nNaCl,1\n"
    if kind == "pickle": return __import__("pickle").dumps({"weights": [1, 2, 3]})
    facts = json.loads(header["__metadata__"]["lgdcnn"])
    if kind == "foreign": header["__metadata__"] = {}
    elif kind == "newer": facts["format"] = 99
    elif kind == "other network": facts["model"]["d_model"] = 64
    elif kind == "unknown field": facts["model"]["width"] = 64
    elif kind == "missing fact": del facts["target_std"]
    elif kind == "unknown stage": facts["model"]["stages"] = ["lstn"]
    if kind != "foreign": header["__metadata__"]["lgdcnn"] = json.dumps(facts) if kind != "no json" else "{"
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size:]


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "pickle", "foreign", "newer", "other network",
                                  "unknown field", "missing fact", "unknown stage", "no json"])
def test_damaged_files_are_refused_in_one_line(fitted, tmp_path, kind):
    path = fitted.save(tmp_path / "a.lgdcnn")
    path.write_bytes(damaged(path, kind))
    with pytest.raises(InputError) as e: LGDCNNRegressor.load(path)
    assert len(str(e.value).splitlines()) == 1 and len(str(e.value)) < 400


def test_files_that_are_not_there(fitted, tmp_path):
    with pytest.raises(InputError, match="no model file"): LGDCNNRegressor.load(tmp_path / "none.lgdcnn")
    with pytest.raises(InputError, match="no folder"): fitted.save(tmp_path / "no" / "a.lgdcnn")


def test_nothing_in_the_package_unpickles(root):
    for path in (root / "lgdcnn").glob("*.py"):
        for word in ("pickle.load", "torch.load", "joblib.load", "allow_pickle=True", "eval("):
            found = [line for line in path.read_text().splitlines() if word in line and f".{word}" not in line
                     and "literal_eval" not in line]
            assert not found, f"{path.name}: {found[0]}"


def test_the_embedded_set_is_fixed():
    ds = load_dataset("exp_formation_enthalpy")
    assert (len(ds), ds.unit, ds.task) == (2135, "eV/atom", "regression")
    assert [len(getattr(ds.splits[0], p)) for p in ("train", "val", "test")] == [1494, 214, 427]
    assert ds.splits[0].test[:5].tolist() == [0, 4, 7, 18, 41]
    assert (ds.splits[0].test.sum(), ds.splits[0].val.sum()) == (462484, 220431)
