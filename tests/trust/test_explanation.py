"Contributions add up, attention sums to one, an occluded element is really gone, and a response is a prediction."
from math import comb

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn import InputError, LGDCNNClassifier, LGDCNNRegressor
from lgdcnn.composition import SYMBOLS, parse_formula
from lgdcnn.config import MODELS
from lgdcnn.estimators.baselines import RandomForest
from lgdcnn.trust.explanation import attention_weights, contributions, element_profile, occlusion
from lgdcnn.trust.response import jumps, response, simplex_grid, vary

matplotlib.use("agg")
parts = st.dictionaries(st.sampled_from(SYMBOLS[1:95]), st.integers(1, 30), min_size=1, max_size=7)


def text(part):
    return "".join(f"{s}{n}" for s, n in part.items())


@pytest.fixture(scope="module")
def pair(embedded, small_config):
    "Two networks whose predictions are averaged."
    formulas, y = (a[:200] for a in embedded.part("train"))
    return LGDCNNRegressor(small_config, epochs=2, n_models=2, device="cpu", verbose=False).fit(formulas, y, validation=0.2)


@settings(max_examples=25, deadline=None)
@given(st.lists(parts, min_size=1, max_size=8))
def test_contributions_sum_to_the_prediction(pair, formulas):
    formulas = [text(p) for p in formulas]
    table = contributions(pair, formulas)
    total = pair.target_mean_ + table.groupby("row")["contribution"].sum()
    assert np.allclose(total, pair.predict(formulas), atol=1e-6 * max(1, pair.target_std_), rtol=1e-6)
    assert len(table) == sum(len(parse_formula(f)) for f in formulas)


@pytest.mark.parametrize("name", ["l-g-dcnn-v1", "dcnn-k1", "lstm", "l-g-dcnn-tuned", "l-g-dcnn-continuous"])
def test_contributions_of_other_architectures(name, embedded):
    formulas, y = (a[:60] for a in embedded.part("train"))
    model = LGDCNNRegressor(MODELS[name].replace(d_model=24, conv_width=24), epochs=1, device="cpu", verbose=False).fit(formulas, y)
    total = model.target_mean_ + contributions(model, formulas).groupby("row")["contribution"].sum()
    assert np.allclose(total, model.predict(formulas), atol=1e-6 * max(1, model.target_std_))


def test_batches_and_order_do_not_matter(pair, embedded, monkeypatch):
    formulas = list(embedded.part("test")[0][:50])
    whole = contributions(pair, formulas)
    monkeypatch.setattr("lgdcnn.trust.explanation._CHUNK", 7)
    assert np.allclose(contributions(pair, formulas)["contribution"], whole["contribution"], atol=1e-6)
    assert np.allclose(contributions(pair, formulas[::-1]).groupby("row")["contribution"].sum()[::-1],
                       whole.groupby("row")["contribution"].sum(), atol=1e-6)


def test_in_a_local_network_a_vote_is_the_elements_own(embedded):
    "Without neighbours, only gate and count are shared: the ratio of two votes does not depend on a third element."
    formulas, y = (a[:60] for a in embedded.part("train"))
    model = LGDCNNRegressor(MODELS["dcnn-k1"].replace(d_model=24, conv_width=24), epochs=1, device="cpu", verbose=False).fit(formulas, y)
    ratio = lambda f: (lambda c: c["Na"] / c["K"])(contributions(model, f).set_index("element")["contribution"])
    assert ratio("NaKCl2") == pytest.approx(ratio("NaKS2"), rel=1e-4)


def test_attention_sums_to_one_and_explains_its_layer(pair):
    formulas = ["NaCl", "LiFePO4", "Ti", "Fe8Cr2Ni1Mn1"]
    table = attention_weights(pair, formulas)
    layers = ["attention-1", "attention-2"]
    assert np.allclose(table.groupby("row")[layers].sum(), 1, atol=1e-6) and (table[layers] > 0).all().all()
    single = LGDCNNRegressor.__new__(LGDCNNRegressor)
    vars(single).update(vars(pair) | {"networks_": pair.networks_[:1]})
    found, mask = single.embed_layers(formulas, ("lstm", "attention-1"))
    alpha = attention_weights(single, formulas)["attention-1"].to_numpy()[:, None]
    assert np.allclose(found["attention-1"][mask], (1 + alpha) * found["lstm"][mask], atol=1e-5)


def test_occlusion_asks_for_the_rest(pair):
    table = occlusion(pair, ["LiFePO4", "NaCl", "Ti"]).set_index(["row", "element"])
    for (row, element), rest in {(0, "Li"): "FePO4", (0, "O"): "LiFeP", (1, "Na"): "Cl", (1, "Cl"): "Na"}.items():
        assert table.loc[(row, element), "without"] == pytest.approx(pair.predict([rest])[0], abs=1e-5)
    assert np.isnan(table.loc[(2, "Ti"), "effect"])
    known = table.drop((2, "Ti"))
    whole = pair.predict(["LiFePO4", "NaCl", "Ti"])[known.index.get_level_values("row")]
    assert np.allclose(known["without"] + known["effect"], whole)


def test_occlusion_works_for_trees(embedded):
    formulas, y = (a[:100] for a in embedded.part("train"))
    assert np.isfinite(occlusion(RandomForest(5).fit(formulas, y), ["NaCl", "MgO"])["effect"]).all()


def test_profile_counts_its_compounds(pair, embedded):
    table = contributions(pair, embedded.part("test")[0])
    profile = element_profile(table, least=5)
    assert profile["mean"].is_monotonic_increasing and (profile["n"] >= 5).all()
    assert profile.loc["O", "n"] == (table["element"] == "O").sum()


@given(st.integers(1, 4), st.integers(2, 12))
def test_grids_hold_every_composition_once(m, n):
    grid = simplex_grid(m, n)
    assert len(grid) == comb(n + m - 2, m - 1) == len(np.unique(grid, axis=0))
    assert (grid >= 0).all() and (grid.sum(1) == n - 1).all() and grid.shape[1] == m


@pytest.mark.parametrize("system, n", [(("Ti", "O"), None), (("Li", "Cu", "O"), 9), (("Li", "B", "O", "F"), 5)])
def test_a_response_is_a_prediction(pair, system, n):
    table = response(pair, system, n)
    mean, std = pair.predict(table["formula"], return_std=True)
    assert np.allclose(table["prediction"], mean, atol=1e-6) and np.allclose(table["std"], std, atol=1e-6)
    assert np.allclose(table[list(system)].sum(axis=1), 1) and "lower" not in table
    for row in table.itertuples(index=False):
        amounts = parse_formula(row.formula)
        fractions = [amounts.get(s, 0) / sum(amounts.values()) for s in system]
        assert np.allclose(fractions, row[1:1 + len(system)])


def test_intervals_of_a_response(pair):
    table = response(pair, ("V", "O"), 11, coverage=0.8)
    assert np.allclose(table[["lower", "upper"]], pair.predict_interval(table["formula"], 0.8), atol=1e-6)


def test_without_neighbours_there_is_no_step_at_the_tie(embedded):
    formulas, y = (a[:60] for a in embedded.part("train"))
    model = LGDCNNRegressor(MODELS["dcnn-k1"].replace(d_model=24, conv_width=24), epochs=1, device="cpu", verbose=False).fit(formulas, y)
    forwards, backwards = (response(model, s, 21)["prediction"].to_numpy() for s in (("Ti", "O"), ("O", "Ti")))
    assert np.allclose(forwards, backwards[::-1], atol=1e-6)
    table = jumps(response(model, ("Ti", "O"), 21))
    assert dict(zip(table["place"], table["n"], strict=True)) == {"corner": 2, "tie": 2, "within": 16}


def test_varying_one_element_keeps_the_others(pair):
    table = vary(pair, "LiFePO4", "Li", [0, 1 / 13, 1 / 7])
    assert np.allclose(table["prediction"], pair.predict(["FePO4", "Li0.5FePO4", "LiFePO4"]), atol=1e-5)
    doped = parse_formula(vary(pair, "SrTiO3", "Nb", [0.1])["formula"][0])
    assert doped["Nb"] / sum(doped.values()) == pytest.approx(0.1) and doped["O"] / doped["Ti"] == pytest.approx(3)
    assert len(vary(pair, "SrTiO3", "Nb", 7)) == 7


def test_plots_show_the_numbers(pair, embedded):
    from lgdcnn.plots.trust import (
        attention_plot,
        contribution_plot,
        distance_plot,
        reliability_plot,
        response_plot,
        ternary_plot,
        ternary_xy,
    )
    from lgdcnn.trust.applicability import by_distance
    formulas, y = (a[:30] for a in embedded.part("test"))
    mean, std = pair.predict(formulas, return_std=True)
    ax = reliability_plot(y, mean, std)
    assert "A$ = " in ax.get_legend_handles_labels()[1][0] and reliability_plot(y, mean, 2 * std, "lstm", ax=ax) is ax
    some = ["NaCl", "LiFePO4"]
    ax = contribution_plot(contributions(pair, some), pair.target_mean_)
    assert np.allclose([line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"], pair.predict(some), atol=1e-5)
    assert len(attention_plot(attention_weights(pair, some)).texts) == 2 * (2 + 4)
    sweep = response(pair, ("Ti", "O"), 11)
    assert np.array_equal(response_plot(sweep, marks={"TiO2": 1 / 3}).lines[0].get_ydata(), sweep["prediction"])
    assert distance_plot(by_distance(np.arange(30), y - mean, 3), "eV", 25.0).get_ylim()[0] == 0
    triangle = response(pair, ("Li", "Cu", "O"), 7)
    assert len(ternary_plot(triangle, outside=np.ones(len(triangle), bool)).figure.axes) == 2  # with its colour bar
    xy = ternary_xy(triangle[["Li", "Cu", "O"]])
    assert (xy[:, 1] >= 0).all() and np.allclose(np.linalg.norm(ternary_xy(np.eye(3)) - np.roll(ternary_xy(np.eye(3)), 1, 0), axis=1), 1)
    with pytest.raises(InputError, match="one value for each of 28 rows"): ternary_plot(triangle, outside=np.ones(3, bool))
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("call, words", [
    (lambda m: contributions(LGDCNNRegressor(), "NaCl"), "must be a fitted LGDCNNRegressor"),
    (lambda m: contributions(RandomForest(), "NaCl"), "RandomForest cannot be explained"),
    (lambda m: contributions(m, []), "no formulas"),
    (lambda m: contributions(m, ["NaCl", "Qq"]), "row 1: cannot read formula 'Qq'"),
    (lambda m: element_profile(contributions(m, "NaCl")), "no element stands in 5"),
    (lambda m: response(m, "TiO"), "must be a list of symbols"),
    (lambda m: response(m, ("Ti",)), "at least two different elements"),
    (lambda m: response(m, ("Ti", "O", "Ti")), "at least two different elements"),
    (lambda m: response(m, ("Ti", "o")), "'o' is not an element"),
    (lambda m: response(m, ("Ti", "O"), 1), "n = 1 is not possible"),
    (lambda m: response(m, ("Ti", "O", "F", "N", "C"), 101), "take a smaller n"),
    (lambda m: vary(m, "Ti", "Ti"), "holds Ti only"),
    (lambda m: vary(m, "TiO2", "Zz"), "'Zz' is not an element"),
    (lambda m: vary(m, "TiO2", "Nb", [0.2, 1.0]), r"in \[0, 1\)"),
    (lambda m: vary(m, "TiO2", "Nb", []), r"in \[0, 1\)"),
    (lambda m: jumps(response(m, ("Li", "Cu", "O"), 3)), "binary systems"),
])
def test_explanations_refuse(pair, call, words):
    with pytest.raises(InputError, match=words): call(pair)


def test_attention_is_missed_where_there_is_none(embedded):
    formulas, y = (a[:40] for a in embedded.part("train"))
    model = LGDCNNRegressor(MODELS["lstm"].replace(d_model=16), epochs=1, device="cpu", verbose=False).fit(formulas, y)
    with pytest.raises(InputError, match="has no attention"): attention_weights(model, "NaCl")


def test_several_targets_and_classes_are_refused_in_one_line(embedded, small_config):
    formulas, y = (a[:60] for a in embedded.part("train"))
    options = {"architecture": small_config, "epochs": 1, "device": "cpu", "verbose": False}
    several = LGDCNNRegressor(**options).fit(formulas, np.stack([y, -y], 1))
    two = LGDCNNClassifier(**options).fit(formulas, y > np.median(y))
    three = LGDCNNClassifier(**options).fit(formulas, np.digitize(y, np.quantile(y, [0.3, 0.7])))
    pooled = LGDCNNRegressor(**options | {"architecture": MODELS["roost-style"].replace(d_model=8)}).fit(formulas, y)
    for ask, words in ((lambda: contributions(several, "NaCl"), "a model of 2 targets cannot be explained"),
                       (lambda: contributions(two, "NaCl"), "a classifier cannot be split into contributions"),
                       (lambda: contributions(three, "NaCl"), "a classifier cannot be split into contributions"),
                       (lambda: contributions(pooled, "NaCl"), "pools its elements by attention"),
                       (lambda: contributions(RandomForest(), "NaCl"), "must be a fitted LGDCNNRegressor"),
                       (lambda: occlusion(several, "NaCl"), "predicts several, or classes"),
                       (lambda: occlusion(two, "NaCl"), "predicts several, or classes"),
                       (lambda: response(several, ("Ti", "O"), n=3), "a model of 2 targets has no single response")):
        with pytest.raises(InputError, match=words) as e: ask()
        assert "\n" not in str(e.value)
    for model in (several, two, three): assert len(attention_weights(model, "NaCl")) == 2
