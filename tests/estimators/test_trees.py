"Trees on wide features: what they promise, and a text form that never harms."
import hashlib
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.benchmark import plan, runs
from lgdcnn.benchmark.results import Cell
from lgdcnn.config import InputError
from lgdcnn.estimators import trees
from lgdcnn.estimators.trees import TREES, Trees

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is an extra", exc_type=ImportError)
KINDS = list(TREES)


@pytest.fixture(scope="module")
def some(embedded):
    return tuple(a[:120] for a in embedded.part("train"))


def targets(kind, y):
    return (np.asarray(y) > np.median(y)).astype(float) if kind == "class" else y


@pytest.fixture(scope="module")
def models(some):
    formulas, y = some
    return {kind: Trees(kind, n_trees=12).fit(formulas, targets(kind, y)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_trees_travel_as_text(kind, models, some):
    text = models[kind].to_text()
    again = Trees.from_text(text)
    assert np.array_equal(again.predict(some[0]), models[kind].predict(some[0]))
    assert np.array_equal(again.predict(["Og", "XeF4"]), models[kind].predict(["Og", "XeF4"]))
    assert again.to_text() == text and again.get_params() == models[kind].get_params()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_nothing(kind, models, some):
    two = Trees(kind, n_trees=12, n_jobs=2).fit(some[0], targets(kind, some[1]))
    assert np.array_equal(two.predict(some[0]), models[kind].predict(some[0]))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "class"])
def test_a_seed_is_a_draw_of_its_own(kind, models, some):
    other = Trees(kind, n_trees=12, seed=1).fit(*some)
    assert not np.array_equal(other.predict(["Fe2O3", "XeF4"]), models[kind].predict(["Fe2O3", "XeF4"]))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "class"])
def test_constant_targets_and_three_rows(kind):
    constant = Trees(kind, n_trees=3).fit(["Fe", "NaCl", "GaAs"], [2.5, 2.5, 2.5])
    assert np.array_equal(constant.predict(["Og", "Fe"]), [2.5, 2.5])
    assert np.array_equal(Trees.from_text(constant.to_text()).predict(["Og"]), [2.5])
    three = Trees(kind, n_trees=30).fit(["Fe", "NaCl", "GaAs"], [1.0, 2.0, 4.0]).predict(["Fe", "NaCl", "GaAs"])
    assert np.isfinite(three).all() and three[2] > three[0], "three rows teach something"
    assert np.isfinite(Trees(kind, n_trees=3).fit(["Fe"], [1.0]).predict(["NaCl"])).all()


def test_probabilities_are_probabilities(models, some):
    p, truth = models["class"].predict(some[0]), targets("class", some[1])
    assert ((p > 0) & (p < 1)).all() and p[truth == 1].mean() > p[truth == 0].mean() + 0.15
    for wrong in ([0.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.5, 0.0, 1.0]):
        with pytest.raises(InputError, match="need targets 0 and 1"): Trees("class").fit(["Fe", "NaCl", "GaAs"], wrong)


def test_the_absolute_loss_answers_with_the_middle():
    "Rows that no feature tells apart: the best single answer is their median, or for squared errors their mean."
    formulas, y = ["Fe2O3"] * 41, [0.0] * 25 + [10.0] * 16
    assert abs(Trees("l1", n_trees=400).fit(formulas, y).predict(["Fe2O3"])[0]) < 0.1
    assert np.isclose(Trees("l2", n_trees=50).fit(formulas, y).predict(["Fe2O3"])[0], np.mean(y))


@pytest.mark.parametrize("kind", KINDS)
def test_trees_without_lightgbm_say_so(kind, monkeypatch, models):
    text = models[kind].to_text()
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(InputError, match=r"lgdcnn\[peers\].*gradient-boosting"): Trees(kind).fit(["Fe", "O2"], [0.0, 1.0])
    with pytest.raises(InputError, match=r"lgdcnn\[peers\]"): Trees.from_text(text)


def test_trees_refuse_before_they_are_trained():
    with pytest.raises(InputError, match="call fit"): Trees().predict(["Fe"])
    with pytest.raises(InputError, match="call fit"): Trees().to_text()
    with pytest.raises(InputError, match="did you mean"): Trees("l22").fit(["Fe"], [1.0])
    with pytest.raises(InputError, match="did you mean 'wide'"): Trees(features="wid").fit(["Fe"], [1.0])
    for n in (0, -3, 2.5, True, "many"):
        with pytest.raises(InputError, match="n_trees"): Trees(n_trees=n).fit(["Fe", "O2"], [1.0, 2.0])
    for seed in (-1, 0.5, True):
        with pytest.raises(InputError, match="seed"): Trees(seed=seed).fit(["Fe", "O2"], [1.0, 2.0])


def test_trees_take_numpys_whole_numbers():
    one, other = (Trees(n_trees=make(3), seed=make(2)).fit(["Fe", "O2"], [1.0, 2.0]) for make in (np.int64, int))
    assert one.to_text() == other.to_text()


def signed(facts):
    "Give facts a sum that fits, as one who means harm would."
    facts.pop("sha256", None)
    return json.dumps({"sha256": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(), **facts})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_text_is_refused(models, data):
    text = models["l1"].to_text()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("0123456789-.,:[]{}\"aeT ").filter(lambda c: c != text[place]))
    damaged = text[:place] + other + text[place + 1:]
    try: model = Trees.from_text(damaged)
    except InputError: return
    assert json.loads(damaged) == json.loads(text) and model.to_text() == text  # a blank outside a number


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_text_is_refused(models, cut):
    with pytest.raises(InputError): Trees.from_text(models["l2"].to_text()[:cut])


def set_in(facts, path, value):
    *most, last = path
    for key in most: facts = facts[key]
    facts[last] = value


@pytest.mark.parametrize("path,value", [
    (("trees", 0, "left_child", 0), 10 ** 6), (("trees", 0, "right_child", 0), -10 ** 6), (("trees", 0, "right_child", 0), 0),
    (("trees", 0, "left_child"), []), (("trees", 0, "leaf_value"), []), (("trees", 0, "leaf_value", 0), float("nan")),
    (("trees", 0, "leaf_value", 0), "1\nTree=9"), (("trees", 0, "threshold", 0), float("inf")), (("trees", 0, "threshold", 0), 1),
    (("trees", 0, "split_feature", 0), 572), (("trees", 0, "split_feature", 0), -1), (("trees", 0, "split_feature", 0), 1.0),
    (("trees", 0, "split_feature", 0), True), (("trees", 0, "decision_type", 0), 1), (("trees", 0, "decision_type", 0), 200),
    (("trees", 0), None), (("trees", 0), []), (("trees",), []), (("trees",), "x"), (("mean",), float("nan")), (("mean",), 1),
    (("std",), "1.0"), (("kind",), "l9"), (("features",), "os"), (("features",), "magpie"), (("n_columns",), 10 ** 9),
    (("format",), 2), (("classes",), 1), (("averaged",), None), (("seed",), "0"), (("trees", 0, "split_feature"), None)])
def test_a_text_made_to_do_harm_is_refused(models, path, value):
    facts = json.loads(models["l2"].to_text())
    set_in(facts, path, value)
    with pytest.raises(InputError): Trees.from_text(signed(facts))


@pytest.mark.parametrize("text", ["", "[]", "null", "1", "{}", '{"sha256": 1}', "[" * 100_000, None, b"\xff", 7, "tree\nversion=v4\n"])
def test_what_is_no_text_of_trees_is_refused(text):
    with pytest.raises(InputError): Trees.from_text(text)


def test_trees_that_loop_are_refused(models):
    "Two inner nodes that are each other's children: walking them would never end."
    facts = json.loads(models["l2"].to_text())
    tree = {"split_feature": [0, 1, 2], "threshold": [0.5] * 3, "decision_type": [2] * 3, "left_child": [-1, 2, 1],
            "right_child": [-2, -3, -4], "leaf_value": [1.0] * 4}
    assert not trees._is_tree(tree, 572)
    facts["trees"] = [tree]
    with pytest.raises(InputError, match="one of them is none"): Trees.from_text(signed(facts))
    assert trees._is_tree({**tree, "left_child": [1, 2, -1], "right_child": [-2, -3, -4]}, 572)


def test_the_plan_gives_each_kind_its_task():
    cells = plan.default_plan()
    tasks = lambda name: {plan.cards()[c.dataset].task for c in cells if c.model == name}
    assert {name: tasks(f"trees-{name}") for name in KINDS} == {
        **dict.fromkeys(("l1", "l2", "extra"), {"regression"}), "class": {"classification"}}
    assert tasks("mean") == {"regression", "classification"}
    cell, = plan.make_plan(["mp_bulk_modulus"], ["trees-class"])
    assert runs.impossible(cell) == "trees-class is for classes"
    assert runs.impossible(Cell("mp_bulk_modulus", 0, "trees-l1", "none", 0)) == ""
    assert runs.impossible(Cell("matbench_glass", 0, "trees-class", "none", 0)) == ""
