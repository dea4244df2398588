"The estimator keeps its contract: order, unit, spelling, files, intervals, refusals."
import json
import math
import pickle
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from bad_fits import BAD_FITS
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import lgdcnn.estimators.base
from lgdcnn import InputError, LGDCNNRegressor, load_dataset
from lgdcnn.composition import SYMBOLS, Compositions
from lgdcnn.config import MODELS
from lgdcnn.networks.models import build_model
from lgdcnn.trust.conformal import conformal_multiple, laplace_multiple

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


def test_fit_reads_its_rows_once(embedded, monkeypatch):
    "What is behind the door is read; only the held-out rows come in by it again, when the fitted model is asked."
    seen, read = [], lgdcnn.estimators.base.read_inputs
    monkeypatch.setattr(lgdcnn.estimators.base, "read_inputs", lambda X, *more: seen.append(type(X)) or read(X, *more))
    formulas, y = (list(a[:20]) for a in embedded.part("train"))
    narrow = MODELS["l-g-dcnn"].replace(d_model=8, conv_width=8)
    LGDCNNRegressor(narrow, epochs=1, device="cpu", verbose=False).fit(formulas, y, validation=0.3)
    assert seen == [list, Compositions]


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


def test_a_seed_may_be_a_whole_number_of_numpy(small_config, tmp_path):
    formulas, y = ["NaCl", "KCl", "LiF"], [1.0, 2.0, 3.0]
    fit = lambda seed: LGDCNNRegressor(small_config, epochs=1, seed=seed, verbose=False).fit(formulas, y, 0)
    ours, theirs = fit(3), fit(np.int64(3))
    assert (ours.predict(formulas) == theirs.predict(formulas)).all()
    theirs.save(tmp_path / "m.lgdcnn")
    assert LGDCNNRegressor.load(tmp_path / "m.lgdcnn").seed == 3


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
    (m1, s1), (m2, s2) = (m.predict(["Fe2O3", "NaCl"], raw_std=True) for m in single)
    mean, std = both.predict(["Fe2O3", "NaCl"], raw_std=True)
    assert np.allclose(mean, (m1 + m2) / 2, atol=1e-6)
    assert np.allclose(std ** 2, (s1 ** 2 + s2 ** 2) / 2 + (m1 - m2) ** 2 / 4, rtol=1e-5)


def test_std_is_calibrated_and_the_raw_one_has_its_own_name(fitted, tmp_path):
    "What std says of 90 % is what the interval says; intervals are multiples of the raw one, as they always were."
    asked = ["Fe2O3", "NaCl", "Ca3(PO4)2"]
    (mean, std), (same, raw) = fitted.predict(asked, return_std=True), fitted.predict(asked, raw_std=True)
    low, high = fitted.predict_interval(asked, 0.9).T
    assert np.array_equal(mean, same) and np.allclose(mean + laplace_multiple(0.9) * std, high, rtol=1e-12)
    q = conformal_multiple(fitted.scores_, 0.9)
    assert np.array_equal(low, mean - q * raw) and std == pytest.approx(fitted.std_factor_ * raw) and len(fitted.scores_) == 60
    again = LGDCNNRegressor.load(fitted.save(tmp_path / "m"))
    assert np.array_equal(again.predict(asked, return_std=True)[1], std)


def test_a_mixture_is_calibrated_as_a_whole(small_config, embedded):
    formulas, y = (a[:150] for a in embedded.part("train"))
    m = LGDCNNRegressor(small_config, epochs=2, n_models=2, verbose=False).fit(formulas, y, embedded.part("val"))
    truth = embedded.part("val")[1]
    mean, std = m.predict(embedded.part("val")[0], return_std=True)
    assert (np.abs(truth - mean) <= laplace_multiple(0.9) * std).mean() == pytest.approx(0.9, abs=0.01)


def test_each_of_several_targets_has_its_factor(small_config, embedded):
    formulas, y = (a[:150] for a in embedded.part("train"))
    table = pd.DataFrame({"a": y, "b": np.where(np.arange(150) % 2, 10 * y, np.nan)})
    m = LGDCNNRegressor(small_config, epochs=2, verbose=False).fit(formulas, table, validation=0.3)
    (_, std), (_, raw) = m.predict(["NaCl"], return_std=True), m.predict(["NaCl"], raw_std=True)
    assert m.std_factor_.shape == (2,) and np.allclose(std, raw * m.std_factor_) and list(std) == ["a", "b"]
    half = np.ptp(m.predict_interval(["NaCl"], 0.9), axis=-1)[0] / 2
    assert np.allclose(half, laplace_multiple(0.9) * std.to_numpy()[0])


def test_without_held_out_rows_std_is_raw_and_says_so(small_config):
    m = LGDCNNRegressor(small_config, epochs=1, verbose=False).fit(["NaCl", "KCl", "MgO"], [1, 2, 3], validation=0)
    with pytest.warns(UserWarning, match="no rows were held out") as told: std = m.predict(["NaCl"], return_std=True)[1]
    assert len(told) == 1 and told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(m.predict(["NaCl"], raw_std=True)[1], std)
        m.predict(["NaCl"])


def test_traces_are_warned_of_once_and_remembered_in_the_file(fitted, tmp_path):
    from lgdcnn.data.tables import TraceWarning
    from lgdcnn.estimators.files import read_model
    model = LGDCNNRegressor.load(fitted.save(tmp_path / "m"))
    assert model.smallest_fraction_ == fitted.smallest_fraction_ == read_model(tmp_path / "m")[0]["smallest_fraction"] >= 0.04
    asked = ["NaCl", "NaClAu1e-6", "Fe2O3K0.00001"]
    for ask in (model.predict, lambda f: model.predict_interval(f, 0.5)):
        with pytest.warns(TraceWarning, match="2 of 3 formulas hold a trace of an element, like .*Au.*: no training row held less than a fraction of 0.0") as told: ask(asked)
        assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(["NaCl", "Fe2O3"])
        model.smallest_fraction_ = None  # as a file of an older version leaves it
        model.predict(asked)
        assert LGDCNNRegressor.load(model.save(tmp_path / "old")).smallest_fraction_ is None
    for wrong in (0, -1, 2, "x", True, float("nan")):
        with pytest.raises(InputError, match="smallest trained fraction is not possible"):
            lgdcnn.estimators.base.read_fraction(wrong)


def test_targets_in_other_units(small_config, embedded):
    "Scaling and shifting the target scales and shifts predictions; the network sees the same numbers."
    formulas, y = (a[:100] for a in embedded.part("train"))
    fit = lambda t: LGDCNNRegressor(small_config, epochs=2, verbose=False).fit(formulas, t).predict(["Fe2O3", "NaCl"], True)
    (mean, std), (mean_k, std_k) = fit(y), fit(1000 * y + 7)
    assert np.allclose(mean_k, 1000 * mean + 7, atol=1e-2) and np.allclose(std_k, 1000 * std, rtol=1e-4)


def test_constant_targets_do_not_divide_by_zero(small_config):
    with pytest.warns(UserWarning, match="the same value in all rows"):
        m = LGDCNNRegressor(small_config, epochs=2, verbose=False).fit(["NaCl", "KCl", "LiF", "MgO"], [2.0] * 4, validation=0)
    assert (m.target_mean_, m.target_std_) == (2.0, 1.0) and np.isfinite(m.predict(["NaCl"], return_std=True)).all()


def test_a_failed_refit_leaves_no_half_model(small_config, monkeypatch):
    import lgdcnn.estimators.base
    m = LGDCNNRegressor(small_config, epochs=1, n_models=2, verbose=False).fit(["NaCl", "KCl"], [1, 2], 0)
    before = m.predict(["NaCl"])
    with pytest.raises(InputError): m.fit(["NaCl", "KClx"], [1, 2])
    assert np.array_equal(m.predict(["NaCl"]), before), "input that is refused at once leaves the model as it was"
    def broken(*args): raise RuntimeError
    monkeypatch.setattr(lgdcnn.estimators.base, "fit_network", broken)
    with pytest.raises(RuntimeError): m.fit(["NaCl", "KCl"], [1, 2], 0)
    with pytest.raises(InputError, match="not trained"): m.predict(["NaCl"])


def test_trained_and_held_out_rows_must_differ(small_config):
    with pytest.warns(UserWarning, match="1 compositions of the validation rows are also trained on"):
        LGDCNNRegressor(small_config, epochs=1, verbose=False).fit(["NaCl", "KCl"], [1, 2], (["ClNa", "LiF"], [1, 2]))


def test_generators_and_tables():
    from lgdcnn.data.tables import check_formulas, check_targets
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
    if kind == "pickle": return pickle.dumps({"weights": [1, 2, 3]})
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


def written(folder, config, tensors=None, **changes):
    "Write a file by hand: the weights of `config`, with facts and tensors changed."
    from lgdcnn.estimators.files import write_model
    facts = {"kind": "regressor", "model": config.to_dict(), "train": {}, "target_mean": 0.0, "target_std": 1.0,
             "target": {"name": "", "unit": ""}, "n_train": 1, "seed": 0, "history": [[]], **changes}
    network = build_model(config)
    with torch.no_grad(): network.head.linear.bias[0] = changes.get("bias", 0.0)
    return write_model(folder / "m", [network], {"scores": torch.zeros(0), **(tensors or {})}, facts)


def model_with(config, **changes): return {**config.to_dict(), **changes}


HOSTILE = {
    "wide": (lambda c: {"model": model_with(c, d_model=4 * 10 ** 12)}, "d_model = 4000000000000 is not possible"),
    "deep": (lambda c: {"model": model_with(c, n_units=10 ** 9)}, "n_units = 1000000000 is not possible"),
    "fine": (lambda c: {"model": model_with(c, resolution=10 ** 12)}, "resolution = 1000000000000 is not possible"),
    "many stages": (lambda c: {"model": model_with(c, stages=["attention"] * 10 ** 5)}, "100000 stages"),
    "negative": (lambda c: {"model": model_with(c, d_model=-8)}, "d_model = -8"),
    "zero": (lambda c: {"model": model_with(c, conv_width=0)}, "conv_width = 0"),
    "text for a number": (lambda c: {"model": model_with(c, d_model="8")}, "TypeError"),
    "wrong shape": (lambda c: {"model": model_with(c, d_model=16)}, "has the shape"),
    "list for a model": (lambda c: {"model": []}, "cannot load"),
    "many members": (lambda c: {"n_models": 10 ** 12}, "n_models = 1000000000000"),
    "no members": (lambda c: {"n_models": 0}, "n_models = 0"),
    "half a member": (lambda c: {"n_models": 0.5}, "n_models = 0.5"),
    "two of one": (lambda c: {"n_models": 2}, "missing or too many"),
    "extra tensor": (lambda c: {"tensors": {"0.evil": torch.zeros(3)}}, "missing or too many, like '0.evil'"),
    "not a number": (lambda c: {"bias": math.nan}, "holds what is no finite number"),
    "infinite": (lambda c: {"bias": math.inf}, "holds what is no finite number"),
    "scores": (lambda c: {"tensors": {"scores": torch.full((3,), math.inf)}}, "calibration scores"),
    "mean": (lambda c: {"target_mean": math.nan}, "target_mean = nan"),
    "mean as text": (lambda c: {"target_mean": "x"}, "cannot load"),
    "spread": (lambda c: {"target_std": 0.0}, "target_std = 0.0"),
    "two means": (lambda c: {"target_mean": [0.0, 0.0], "target_std": [1.0, 1.0]}, "not one number for each of 1 targets"),
    "format 0": (lambda c: {"format": 0}, "has format '0', this version reads 1 to 3"),
    "format 4": (lambda c: {"format": 4}, "update lgdcnn"),
    "format as text": (lambda c: {"format": "2"}, "update lgdcnn"),
    "format true": (lambda c: {"format": True}, "update lgdcnn"),
    "kind": (lambda c: {"kind": "oracle"}, "holds a oracle"),
    "seed": (lambda c: {"seed": "x"}, "seed = 'x'"),
    "no target": (lambda c: {"target": 3}, "damaged"),
    "training": (lambda c: {"train": {"epochs": -1}}, "epochs = -1"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(case, tmp_path):
    config = MODELS["l-g-dcnn"].replace(d_model=8, conv_width=8, n_units=1)
    make, message = HOSTILE[case]
    path = written(tmp_path, config, **make(config))
    start = time.perf_counter()
    with pytest.raises(InputError) as e: LGDCNNRegressor.load(path)
    assert message in str(e.value) and len(str(e.value).splitlines()) == 1 and len(str(e.value)) < 600
    assert time.perf_counter() - start < 5, "a refusal is quick"


def test_what_those_files_change_is_fine_otherwise(tmp_path):
    path = written(tmp_path, MODELS["l-g-dcnn"].replace(d_model=8, conv_width=8, n_units=1))
    assert np.isfinite(LGDCNNRegressor.load(path).predict(["NaCl"])).all()


RAW = {
    "huge header": (2 ** 62).to_bytes(8, "little") + b"{}", "header of its own length": (2).to_bytes(8, "little") + b"{}",
    "no json": (4).to_bytes(8, "little") + b"\xff\xfe{]" , "zeros": bytes(1000), "zip": b"PK\x03\x04" + bytes(100),
    "deep json": (200_000).to_bytes(8, "little") + b"[" * 200_000, "gzip": b"\x1f\x8b" + bytes(50),
    "pickle of a class": pickle.dumps(pd.DataFrame({"a": [1]})), "html": b"<!DOCTYPE html><html></html>", "one byte": b"x",
    "deep facts": json.dumps({"__metadata__": {"lgdcnn": "[" * 100_000}}).encode(),
    "list of facts": json.dumps({"__metadata__": {"lgdcnn": "[1]"}}).encode(),
    "long number": json.dumps({"__metadata__": {"lgdcnn": "9" * 10_000}}).encode(),
}
for name in ("deep facts", "list of facts", "long number"): RAW[name] = len(RAW[name]).to_bytes(8, "little") + RAW[name]


@pytest.mark.parametrize("case", RAW)
def test_files_of_other_kinds_are_refused(case, tmp_path):
    (tmp_path / "m").write_bytes(RAW[case])
    with pytest.raises(InputError) as e: LGDCNNRegressor.load(tmp_path / "m")
    assert len(str(e.value).splitlines()) == 1 and len(str(e.value)) < 600


def test_cut_anywhere_a_file_is_refused(fitted, tmp_path):
    path = fitted.save(tmp_path / "a.lgdcnn")
    data = path.read_bytes()
    for cut in [*range(0, 200, 7), *np.linspace(200, len(data) - 1, 60, dtype=int).tolist()]:
        (tmp_path / "cut").write_bytes(data[:cut])
        with pytest.raises(InputError, match="no model file, or damaged"): LGDCNNRegressor.load(tmp_path / "cut")


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(InputError, match="is a folder"): LGDCNNRegressor.load(tmp_path)


def test_files_of_format_1_still_load(root):
    "Written by version 0.1.0 before files named their kind, with the predictions it printed."
    m = LGDCNNRegressor.load(root / "tests" / "files" / "format1.safetensors")
    mean, std = m.predict(["NaCl", "Fe2O3"], raw_std=True)
    assert mean == pytest.approx([-1.93979397, -1.93231026], abs=1e-5) and std == pytest.approx([1.0561112, 1.01387226], abs=1e-5)
    assert m.predict_interval(["NaCl"], 0.5)[0] == pytest.approx([-2.96048416, -0.91910379], abs=1e-5)
    assert (m.n_train_, len(m.networks_), m.target_) == (80, 2, {"name": "enthalpy", "unit": "eV/atom"})
    low, high = m.predict_interval(["NaCl"], 0.9)[0]  # its std is calibrated too: the scores were always kept
    assert laplace_multiple(0.9) * m.predict(["NaCl"], return_std=True)[1] == pytest.approx([(high - low) / 2])
    assert m.smallest_fraction_ is None  # not told in those days: no warning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m.predict(["NaClAu1e-6"], return_std=True)


def test_a_file_says_where_it_comes_from(fitted, tmp_path):
    from lgdcnn import __version__
    from lgdcnn.estimators.files import read_model
    facts, _ = read_model(fitted.save(tmp_path / "a"))
    assert (facts["lgdcnn"], facts["torch"], facts["kind"]) == (__version__, str(torch.__version__), "regressor")
    assert len(facts["fingerprint"]) == 64 and set(facts["validation"]) == {"mae", "rmse", "r2"}


def test_a_loaded_model_does_not_lean_on_its_file(fitted, tmp_path):
    path = fitted.save(tmp_path / "a")
    m = LGDCNNRegressor.load(path)
    path.write_bytes(b"")  # a view of the file would end the process here
    assert np.array_equal(m.predict_interval(["NaCl"]), fitted.predict_interval(["NaCl"]))


def test_nothing_in_the_package_unpickles_or_evaluates(root):
    "Read as a syntax tree, so that `network.eval()` is no `eval` and a word in prose is none either."
    import ast
    loaders = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in (root / "lgdcnn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.name}, line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import): assert not loaders & {a.name.split(".")[0] for a in node.names}, where
            if isinstance(node, ast.ImportFrom): assert (node.module or "").split(".")[0] not in loaders, where
            if not isinstance(node, ast.Call): continue
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "compile", "torch.load", "pd.read_pickle", "pandas.read_pickle"), where
            pickled = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            assert all(isinstance(v, ast.Constant) and v.value is False for v in pickled), where


def test_the_embedded_set_is_fixed():
    ds = load_dataset("exp_formation_enthalpy")
    assert (len(ds), ds.unit, ds.task) == (2135, "eV/atom", "regression")
    assert [len(getattr(ds.splits[0], p)) for p in ("train", "val", "test")] == [1494, 214, 427]
    assert ds.splits[0].test[:5].tolist() == [0, 4, 7, 18, 41]
    assert (ds.splits[0].test.sum(), ds.splits[0].val.sum()) == (462484, 220431)
