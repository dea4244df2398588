"Columns beside the formula: learned from, standardised, saved, refused; and absent they change nothing."
import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from lgdcnn import InputError, LGDCNNClassifier, LGDCNNRegressor
from lgdcnn.cli import main
from lgdcnn.composition import featurize
from lgdcnn.config import MODELS, PROTOCOLS
from lgdcnn.estimators.extra import Conditioned, ExtraColumns, read_inputs
from lgdcnn.estimators.files import read_model
from lgdcnn.networks.layers import CompositionTensors, jitter
from lgdcnn.networks.models import build_model
from lgdcnn.trust.explanation import attention_weights, contributions

NARROW = MODELS["l-g-dcnn"].replace(d_model=32, conv_width=32, n_units=1)
FAST = PROTOCOLS["fast"].replace(batch_size=32, learning_rate=3e-3)


def made_up(n=240, seed=0):
    "A property of binary salts that rises with temperature, the more the heavier the cation."
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, n), rng.integers(0, 5, n)
    formula = np.array(["Li", "Na", "K", "Rb", "Cs"])[a].astype(object) + np.array(["F", "Cl", "Br", "I", "H"])[b].astype(object)
    temperature = rng.uniform(200, 1000, n)
    y = 0.2 * b + (a + 1) * (temperature - 600) / 400
    return pd.DataFrame({"formula": formula, "temperature": temperature.round(1), "pressure": rng.normal(size=n)}), y


@pytest.fixture(scope="module")
def warm():
    X, y = made_up()
    return LGDCNNRegressor(NARROW, FAST, epochs=25, device="cpu", verbose=False, extra=("temperature",)).fit(X, y)


def test_what_depends_on_temperature_is_learned_only_with_it(warm):
    X, y = made_up()
    asked, truth = made_up(100, seed=1)
    with pytest.warns(UserWarning, match="stand in several rows with different targets"):
        blind = LGDCNNRegressor(NARROW, FAST, epochs=25, device="cpu", verbose=False).fit(X["formula"], y)
    spread = np.abs(truth - truth.mean()).mean()
    assert np.abs(blind.predict(asked["formula"]) - truth).mean() > 0.8 * spread
    assert np.abs(warm.predict(asked) - truth).mean() < 0.25 * spread
    at = warm.predict(pd.DataFrame({"formula": "KCl", "temperature": [250, 600, 950]}))
    assert at[0] < at[1] < at[2]


def test_rows_are_told_apart_and_may_be_permuted(warm, recwarn):
    asked, _ = made_up(50, seed=2)
    order = np.random.default_rng(0).permutation(50)
    mean, std = warm.predict(asked, return_std=True)
    assert np.allclose(warm.predict(asked.iloc[order][["pressure", "temperature", "formula"]]), mean[order], atol=1e-5)
    assert np.allclose([warm.predict(asked.iloc[[i]])[0] for i in range(5)], mean[:5], atol=1e-5)
    assert np.allclose(warm.predict_interval(asked, 0.8).mean(1), mean)
    X, y = made_up(40)
    again = lambda i: LGDCNNRegressor(NARROW, FAST, epochs=1, verbose=False, extra=("temperature",)).fit(X.iloc[i], y[i], 0)
    a, b = again(np.arange(40)), again(np.arange(40)[::-1])
    assert a.fingerprint_ == b.fingerprint_ and a.fingerprint_ != warm.fingerprint_


def test_saved_and_loaded_it_is_the_same(warm, tmp_path):
    asked, _ = made_up(30, seed=3)
    path = warm.save(tmp_path / "m.lgdcnn")
    again = LGDCNNRegressor.load(path)
    assert again.extra == ("temperature",) and again.extra_.to_dict() == warm.extra_.to_dict()
    assert np.array_equal(again.predict(asked), warm.predict(asked))
    assert np.array_equal(again.predict_interval(asked), warm.predict_interval(asked))
    assert clone(again).extra == ("temperature",) and again.architecture == NARROW
    facts = read_model(path)[0]
    assert (facts["format"], facts["model"]["n_extra"]) == (3, 1)


def test_a_network_without_extra_columns_is_what_it_was(fitted, tmp_path):
    facts, tensors = read_model(fitted.save(tmp_path / "m.lgdcnn"))
    assert "n_extra" not in facts["model"] and "extra" not in facts
    assert not any("extra" in name for name in tensors)
    a, b = build_model(NARROW), build_model(NARROW.replace(n_extra=2))
    assert all(torch.equal(t, b.state_dict()[name]) for name, t in a.state_dict().items())
    assert NARROW.digest() == NARROW.replace(n_extra=0).digest() != NARROW.replace(n_extra=1).digest()


def test_a_damaged_list_of_columns_is_refused(warm, tmp_path):
    from safetensors.torch import load_file, save_file
    path = warm.save(tmp_path / "m.lgdcnn")
    facts = {k: v for k, v in read_model(path)[0].items() if k != "sha256"} | {"format": 2}
    for change, words in (({"extra": None}, "names of its extra columns"), ({"elements": ["Na"]}, "list of trained elements"),
                          ({"extra": {"names": ["t"], "mean": [0.0], "std": [-1.0]}}, "means and spreads of t"),
                          ({"extra": {"names": ["formula"], "mean": [0.0], "std": [1.0]}}, "none of them 'formula'"),
                          ({"extra": {"names": ["t"], "mean": "x", "std": [1.0]}}, "damaged"), ({"extra": 3}, "cannot load")):
        save_file(load_file(path), tmp_path / "bad.lgdcnn", {"lgdcnn": json.dumps({**facts, **change})})
        with pytest.raises(InputError, match=words): LGDCNNRegressor.load(tmp_path / "bad.lgdcnn")


def test_numbers_follow_their_formula_through_batches_and_padding():
    written = ["NaCl", "Fe", "LiFePO4", "MgO", "Ca3(PO4)2"]
    data = CompositionTensors(featurize(written), extra=torch.arange(5.0)[:, None])
    packed = data.pack(torch.tensor([4, 1, 2]))
    assert packed.extra.flatten().tolist() == [[4.0, 1.0, 2.0][i] for i in packed.order]
    assert jitter(packed, 0.1, torch.Generator()).extra is packed.extra
    net = build_model(NARROW.replace(n_extra=1)).eval()
    both = (net(data.pack(index))[0] for index in (torch.arange(5), torch.tensor([3, 0, 4, 2, 1])))
    first, second = both
    assert torch.allclose(first[[3, 0, 4, 2, 1]], second, atol=1e-5)
    padded = CompositionTensors(featurize(written), extra=torch.arange(5.0)[:, None], pad_to=6).pack(torch.arange(5))
    assert build_model(MODELS["dcnn-k1"].replace(n_extra=1)).eval()(padded)[0].isfinite().all()
    for name in ("crabnet-style", "roost-style"):
        assert build_model(MODELS[name].replace(n_extra=1)).eval()(packed)[0].shape == (3, 1)


def test_the_rest_of_the_estimator_knows_them(warm):
    X, y = made_up(60)
    table = contributions(warm, X[:5])
    total = warm.target_mean_ + table.groupby("row")["contribution"].sum()
    assert np.allclose(total, warm.predict(X[:5]), atol=1e-5) and table["formula"].iloc[0] == X["formula"][0]
    assert len(attention_weights(warm, X[:5])) == 10 and warm.embed(X[:5])[0].shape[:2] == (5, 2)
    pair = (X[40:], y[40:])
    held = clone(warm).set_params(epochs=1).fit(X[:40], y[:40], validation=pair)
    assert len(held.scores_) == 20
    scores = cross_val_score(clone(warm).set_params(epochs=1), X, y, cv=2)
    assert scores.shape == (2,) and np.isfinite(scores).all()
    near = clone(warm).set_params(epochs=1).fit(X[:20], y[:20], 0, init_from=warm)
    assert near.extra_ is warm.extra_
    labels = np.where(y > 0, "high", "low")
    c = LGDCNNClassifier(NARROW, epochs=2, verbose=False, extra=("temperature", "pressure")).fit(X, labels)
    assert c.predict_proba(X[:4]).shape == (4, 2)


X, Y = made_up(20)
ONE = {"extra": ("temperature",)}
REFUSED = {
    "table without extra": ({}, X, "formulas must be one column, not a table: pass .*'formula'.*extra="),
    "formulas alone": (ONE, X["formula"], "needs temperature beside the formula"),
    "a column missing": ({"extra": ("temperature", "year")}, X, "no extra column 'year': its columns are 'formula'"),
    "no formulas": (ONE, X.drop(columns="formula"), "no formula column 'formula'"),
    "NaN": (ONE, X.assign(temperature=[1.0] * 3 + [np.nan] * 17), "row 3: the temperature is nan, not a finite number"),
    "infinite": (ONE, X.assign(temperature=np.inf), "row 0: the temperature is inf"),
    "text": (ONE, X.assign(temperature="hot"), "row 0: the temperature is 'hot'"),
    "too large": (ONE, X.assign(temperature=1e200), "row 0: the temperature is 1e\\+200"),
    "one name": ({"extra": "temperature"}, X, "it must be a tuple of column names"),
    "names twice": ({"extra": ("temperature", "temperature")}, X, "names must be different"),
    "formula itself": ({"extra": ("formula",)}, X, "none of them 'formula'"),
    "a bad formula": (ONE, X.assign(formula=["NaCl", "Xx"] + ["NaCl"] * 18), "row 1: .*not an element"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    options, table, words = REFUSED[case]
    with pytest.raises(InputError, match=words): LGDCNNRegressor(NARROW, epochs=1, verbose=False, **options).fit(table, Y)


def test_refusals_when_asked(warm, fitted):
    for ask in (lambda: warm.predict(["NaCl"]), lambda: warm.predict_interval("NaCl"), lambda: contributions(warm, ["NaCl"]),
                lambda: warm.embed(["NaCl"]), lambda: warm.predict(featurize(["NaCl"]))):
        with pytest.raises(InputError, match="needs temperature beside the formula"): ask()
    with pytest.raises(InputError, match="no extra column 'temperature'"): warm.predict(X.drop(columns="temperature"))
    with pytest.raises(InputError, match="not a table"): fitted.predict(X)
    with pytest.raises(InputError, match="init_from reads temperature, not pressure"):
        clone(warm).set_params(extra=("pressure",)).fit(X, Y, 0, init_from=warm)
    with pytest.warns(UserWarning, match="pressure is the same in all rows"):
        ExtraColumns.of(("pressure",), read_inputs(X.assign(pressure=1), ("pressure",)))
    assert not isinstance(read_inputs(["NaCl"]), Conditioned)


def run(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.stdout, r.stderr


def test_the_command_line_reads_them(tmp_path):
    X, y = made_up(100)
    X.rename(columns={"formula": "Compound"}).assign(y=y).to_csv(tmp_path / "own.csv", index=False)
    train = ("train", tmp_path / "own.csv", "--target", "y", "--formula", "Compound", "--out", tmp_path / "m", "--epochs", 1,
             "--architecture", "dcnn-k1", "--quiet")
    code, out, err = run(*train, "--extra", "temperature", "--extra", "pressure")
    assert code == 0 and out.startswith("validation MAE"), err
    code, out, err = run("predict", tmp_path / "m", "--csv", tmp_path / "own.csv", "--formula", "Compound", "--chunk", 30,
                         "--format", "csv", "--coverage", 0.5)
    assert code == 0, err
    from io import StringIO
    got = pd.read_csv(StringIO(out))["prediction"]
    assert np.allclose(got, LGDCNNRegressor.load(tmp_path / "m").predict(X), rtol=1e-4, atol=1e-5)
    (tmp_path / "bad.csv").write_text("formula,temperature,pressure\n" + "NaCl,300,1\n" * 4 + "NaCl,,1\n")
    for args, words in ((("predict", tmp_path / "m", "NaCl"), "needs temperature, pressure beside the formula: give a table with --csv"),
                        (("predict", tmp_path / "m", "--csv", tmp_path / "bad.csv", "--chunk", 2, "--coverage", 0.5), "row 4: the temperature is ''"),
                        ((*train, "--extra", "year"), "no extra column 'year'"),
                        (("train", "exp_formation_enthalpy", "--extra", "year", "--out", tmp_path / "n"), "leave --extra year out")):
        code, out, err = run(*args)
        assert (code, len(err.splitlines())) == (2, 1) and words in err, err
