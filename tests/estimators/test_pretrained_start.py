"""What a small table gets from the network that comes with the package: its weights to start from, its features for trees."""
import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.base import clone

import lgdcnn.networks.shipped as shipped
from lgdcnn import LGDCNNClassifier, LGDCNNRegressor, load_model, pretrained
from lgdcnn.cli import main
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.estimators.baselines import RandomForest
from lgdcnn.estimators.features import FEATURES, pretrained_features, pretrained_names
from lgdcnn.estimators.trees import Trees
from lgdcnn.fusion.members import Member
from lgdcnn.networks.start import start_config

FORMULAS = [f"{a}{b}" for a in ("Li", "Na", "K", "Rb", "Cs") for b in ("F", "Cl", "Br", "I")]
Y = np.arange(20.0)
STILL = {"epochs": 1, "verbose": False, "device": "cpu"}


def body(network):
    return {k: v for k, v in network.state_dict().items() if not k.startswith("head.")}


def still():
    "A training that moves nothing."
    return {"protocol": PROTOCOLS["fast"].replace(learning_rate=1e-12, epochs=1), "verbose": False, "device": "cpu"}


@pytest.mark.parametrize("kind, y", [(LGDCNNRegressor, Y), (LGDCNNClassifier, np.tile(["a", "b"], 10))])
def test_a_training_starts_from_the_shipped_body_with_a_new_head(kind, y):
    model = kind(init_from="pretrained", **still()).fit(FORMULAS, y, validation=0)
    theirs, mine = shipped.shipped().network, model.networks_[0]
    assert mine is not theirs and mine.config.d_model == theirs.config.d_model and mine.config.n_targets == 1
    for k, w in body(theirs).items(): assert (body(mine)[k].float() - w.float()).abs().max() < 1e-6, k
    fresh = kind(start_config("l-g-dcnn", "pretrained"), **still()).fit(FORMULAS, y, validation=0)
    assert (fresh.networks_[0].head.linear.weight - mine.head.linear.weight).abs().max() < 1e-6  # the seed's head


def test_training_leaves_the_shipped_network_as_it_was():
    before = {k: v.clone() for k, v in shipped.shipped().network.state_dict().items()}
    answer = pretrained().predict(["NaCl"], "band_gap_mp")
    LGDCNNRegressor(init_from="pretrained", **STILL).fit(FORMULAS, Y, validation=0)
    for k, w in shipped.shipped().network.state_dict().items(): assert (w == before[k]).all(), k
    assert pretrained().predict(["NaCl"], "band_gap_mp") == answer


def test_the_option_survives_clone_and_seeds_repeat_it():
    model = LGDCNNRegressor(init_from="pretrained", seed=3, **STILL)
    assert clone(model).init_from == "pretrained" and clone(model).get_params() == model.get_params()
    a, b = (clone(model).fit(FORMULAS, Y, validation=0).predict(FORMULAS) for _ in range(2))
    assert (a == b).all() and (model.set_params(seed=4).fit(FORMULAS, Y, validation=0).predict(FORMULAS) != a).any()
    given = LGDCNNRegressor(seed=3, **STILL).fit(FORMULAS, Y, validation=0, init_from="pretrained")
    assert (given.predict(FORMULAS) == a).all()  # to fit, it is the same


def test_a_saved_model_needs_the_shipped_file_no_more(tmp_path, monkeypatch):
    model = LGDCNNRegressor(init_from="pretrained", **STILL).fit(FORMULAS, Y, validation=0)
    path = model.save(tmp_path / "m.lgdcnn")
    def gone(): raise InputError("gone")
    monkeypatch.setattr(shipped, "shipped_path", gone)
    shipped.shipped.cache_clear()
    try: again = load_model(path)
    finally: shipped.shipped.cache_clear()
    assert (again.predict(FORMULAS) == model.predict(FORMULAS)).all() and again.init_from is None


def test_columns_beside_the_formula_start_anew():
    import pandas as pd
    table = pd.DataFrame({"formula": FORMULAS, "temperature": np.linspace(300, 900, 20)})
    model = LGDCNNRegressor(init_from="pretrained", extra=("temperature",), **STILL).fit(table, Y, validation=0)
    assert model.config_.n_extra == 1 and model.networks_[0].extra is not None


@pytest.mark.parametrize("bad, words", [
    ({"architecture": "lstm"}, "leave architecture out"), ({"architecture": MODELS["l-g-dcnn"]}, "leave architecture out"),
    ({"init_from": "pretraned"}, "did you mean 'pretrained'"), ({"init_from": 3}, "not int: give a trained model to fit"),
    ({"init_from": "none.lgdcnn"}, "there is no model file"),
    ({"init_from": LGDCNNRegressor()}, "give a trained model to fit")])
def test_a_start_that_cannot_be_is_refused(bad, words):
    with pytest.raises(InputError, match=words): LGDCNNRegressor(**{"init_from": "pretrained"} | bad).fit(FORMULAS, Y)


def test_the_features_are_what_the_network_answers():
    model, x = pretrained(), pretrained_features(FORMULAS)
    answers = (model.raw(FORMULAS)[0] - model.shift) / model.spread
    assert pretrained_names()[-len(model.wanted):] == [p.name for p in model.wanted]
    assert x.dtype == np.float32 and np.abs(x[:, -len(model.wanted):] - answers).max() < 2e-3
    assert (pretrained_features(FORMULAS[::-1])[::-1] == x).mean() > 0.999  # a digit in the third place may tip
    with pytest.warns(shipped.UnseenWarning, match="has never seen Og"): pretrained_features(["OgO"])
    assert FEATURES["wide+pretrained"](FORMULAS).shape == (20, 572 + x.shape[1])


@pytest.mark.parametrize("kind", ["l2", "extra"])
def test_trees_on_pretrained_features_travel_with_the_name_of_their_network(kind, monkeypatch):
    pytest.importorskip("lightgbm")
    trees = Trees(kind, 5, features="pretrained").fit(FORMULAS, Y)
    text = trees.to_text()
    assert np.abs(Trees.from_text(text).predict(FORMULAS) - trees.predict(FORMULAS)).max() < 1e-6
    assert json.loads(text)["features_source"] == shipped.shipped_digest()
    monkeypatch.setattr(shipped, "shipped_digest", lambda: "another")
    with pytest.raises(InputError, match="another pretrained network"): Trees.from_text(text)
    monkeypatch.undo()
    assert "features_source" not in json.loads(Trees(kind, 5).fit(FORMULAS, Y).to_text())


def test_a_forest_and_a_member_take_them_too():
    assert RandomForest(5, features="pretrained").fit(FORMULAS, Y).model_.n_features_in_ == len(pretrained_names())
    member = Member("trees-l2", n_trees=5, features="pretrained")
    assert member.name == "trees-l2-5-pretrained" and Member.from_dict(member.to_file()) == member
    assert "features" not in Member("trees-l2").to_file()  # files of earlier versions, and for them, stay as they are
    with pytest.raises(InputError, match="is of trees"): Member("lstm", features="pretrained")
    with pytest.raises(InputError, match="did you mean 'pretrained'"): Member("trees-l2", features="pretraned")
    with pytest.raises(InputError, match="did you mean"): Trees(features="pretraind").fit(FORMULAS, Y)


def test_the_command_starts_from_it(tmp_path):
    table, out = tmp_path / "t.csv", tmp_path / "m.lgdcnn"
    table.write_text("formula,gap\n" + "\n".join(f"{f},{y}" for f, y in zip(FORMULAS, Y, strict=True)), encoding="utf-8")
    run = lambda *words: CliRunner().invoke(main, ["train", str(table), "--target", "gap", "--epochs", "1", "--out", str(out),
                                                   "--quiet", *words])
    assert run("--init-from", "pretrained").exit_code == 0
    assert load_model(out).config_.d_model == shipped.shipped().network.config.d_model
    bad = run("--init-from", "pretained")
    assert bad.exit_code != 0 and "did you mean 'pretrained'" in bad.output
