"The stored views have their form, agree with each other, and follow from the data set where that is cheap to check."
import json
import shutil
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lgdcnn import cecv
from lgdcnn.cecv.members import element_family
from lgdcnn.composition import ATOMIC_NUMBER, SYMBOLS, parse_formula
from lgdcnn.config import InputError
from lgdcnn.elements import element_table
from lgdcnn.networks.models import build_model
from lgdcnn.studies.one_network import (
    VIEWS,
    InnerLayers,
    ViewPlan,
    grid_steps,
    measured_table,
    nearest,
    run_views,
)
from lgdcnn.studies.padding import PaddingPlan, run_padding
from lgdcnn.studies.transfer import TransferPlan, divide, run_transfer
from lgdcnn.trust.conformal import laplace_multiple

COLUMNS = {
    "scores": "dataset model seed epochs unit n_test mae coverage nominal_coverage",
    "layers": "element layer threshold count value n_compounds", "elements": "element layer threshold count value n_compounds",
    "leaders": "element threshold n_elements cluster compounds of leader row column row_element column_element r members",
    "element_maps": "space element family compounds mean_target nearest nearest_mean_target pca_x pca_y tsne_x tsne_y",
    "compound_maps": "formula part family target nearest_target_untrained nearest_target_trained pca_x pca_y tsne_x tsne_y",
    "sweeps": "model system fraction formula prediction std lower upper", "ternary": "system a b c formula prediction std",
    "measured": "system formula part target a b c", "padding_formulas": "network seed length formula prediction",
    "padding": "network seed length mae mean_change largest_change dataset unit model width epochs",
    "transfer": "start seed n_train mae dataset family unit model width epochs n_source n_test"}


@pytest.fixture(scope="module")
def views(root):
    "All stored tables."
    return {name: pd.read_csv(root / "results" / "views" / f"{name}.csv", keep_default_na=name == "measured") for name in COLUMNS}


def test_the_tables_have_their_form_and_are_small(root, views):
    folder = root / "results" / "views"
    assert {p.name for p in folder.iterdir()} == {f"{name}.csv" for name in COLUMNS} | {"run.json"}
    for name, table in views.items():
        assert list(table) == COLUMNS[name].split() and len(table), name
        assert (folder / f"{name}.csv").stat().st_size < 300_000
        numbers = table.select_dtypes("number")
        assert np.isfinite(numbers.drop(columns="c", errors="ignore")).all().all(), name
    assert json.loads((folder / "run.json").read_text())["plan"]["epochs"] == views["scores"].epochs[0] == ViewPlan().epochs
    assert set(VIEWS) <= set(COLUMNS)


def test_counts_fall_with_the_threshold_and_agree_at_the_output(views):
    for name in ("layers", "elements"):
        table = views[name]
        assert np.allclose(table.value, table["count"] / table.n_compounds, rtol=1e-4)
        for _, part in table.groupby(["element", "layer"]):
            assert list(part.threshold) == list(cecv.THRESHOLDS) and (np.diff(part["count"]) <= 0).all()
    layers, elements = views["layers"], views["elements"]
    last = layers[layers.layer == layers.layer.iloc[-1]]
    assert list(last["count"]) == list(elements[elements.element == "O"]["count"])
    assert elements.n_compounds.min() >= ViewPlan().least


def test_leaders_are_correlation_matrices(views):
    sizes = []
    for (n, _), part in views["leaders"].groupby(["n_elements", "cluster"]):
        r, first = part.r.to_numpy(float).reshape(n, n), part.iloc[0]
        assert (r == r.T).all() and (r.diagonal() == 1).all() and (np.abs(r) <= 1).all()
        assert sorted(part.row_element[::n]) == sorted(parse_formula(first.leader)) and first.members.split()[0] == first.leader
        assert "O" in parse_formula(first.leader)
        sizes.append((n, first.compounds, first.of))
    for n in (3, 4):
        counts = [c for m, c, _ in sizes if m == n]
        assert counts == sorted(counts, reverse=True) and sum(counts) <= next(of for m, _, of in sizes if m == n)
    assert views["layers"].n_compounds[0] == sum(of for _, of in {(n, of) for n, _, of in sizes})


def test_maps_have_one_row_for_each_element_and_compound(views, embedded):
    table, c = views["element_maps"], embedded.compositions()
    z, n = np.unique(c.numbers, return_counts=True)
    mean = np.bincount(c.numbers, np.repeat(embedded.frame["target"], c.n_elements))[z] / n
    for _, part in table.groupby("space"):
        assert list(part.element) == [SYMBOLS[i] for i in z] and list(part.compounds) == list(n)
        assert np.allclose(part.mean_target, mean, rtol=1e-4)
        assert np.allclose(part.nearest_mean_target, mean[[list(z).index(ATOMIC_NUMBER[s]) for s in part.nearest]], rtol=1e-4)
        assert (part.nearest != part.element).all()
    given = table[table.space == "table"]
    assert list(given.nearest) == [SYMBOLS[i] for i in z[nearest(element_table("mat2vec")[z])]]
    assert list(given.family) == [element_family(s) for s in given.element] and given.family.nunique() == 6
    compounds = views["compound_maps"]
    assert list(compounds.formula) == list(embedded.frame["formula"])
    assert np.allclose(compounds.target, embedded.frame["target"], rtol=1e-4)
    assert {name: (compounds.part == name).sum() for name in ("train", "val", "test")} == {
        name: len(embedded.part(name)[0]) for name in ("train", "val", "test")}


def test_sweeps_run_from_one_element_to_the_other(views):
    table, plan = views["sweeps"], ViewPlan()
    assert set(table.model) == {plan.network, plan.control} and set(table.system) == {"-".join(s) for s in plan.binaries}
    for (_, system), part in table.groupby(["model", "system"]):
        ends = part.formula.iloc[[0, -1]].map(lambda f: "".join(parse_formula(f)))
        assert list(ends) == system.split("-")[::-1]
        assert np.allclose(part.fraction, np.linspace(0, 1, 101)) and (part.lower < part.prediction).all() and (part.prediction < part.upper).all()
        steps = grid_steps(part.assign(rest=1 - part.fraction), ("fraction", "rest"))
        assert steps.place.value_counts().to_dict() == {"within": 97, "edge": 2, "order": 1}
    pure = table[table.fraction == 0].groupby("model").prediction
    assert (pure.nunique() == 1).all()  # pure oxygen is the same in every system


def test_stored_standard_deviations_are_calibrated(views):
    "The Laplace interval of 90 % by std is the calibrated one, as it is for whoever asks a model."
    table, plan = views["sweeps"], ViewPlan()
    reach = laplace_multiple(plan.coverage) * table["std"]
    assert plan.coverage == 0.9 and np.allclose(table["prediction"] + reach, table["upper"], rtol=1e-3, atol=2e-3)


def test_triangles_share_their_common_edge(views):
    table = views["ternary"]
    assert np.allclose(table[["a", "b", "c"]].sum(axis=1), 1, atol=1e-4) and (table.groupby("system").size() == 496).all()
    one, two = (part[part.b == 0].set_index("a").prediction for _, part in table.groupby("system"))
    assert len(one) == 31 and np.allclose(one, two.loc[one.index], rtol=1e-4)


def test_measured_compounds_are_those_of_the_set(views, embedded):
    again = measured_table(embedded, None, ViewPlan())
    pd.testing.assert_frame_equal(views["measured"], again, rtol=1e-4, check_dtype=False)


def test_only_the_padded_network_changes(views):
    table = views["padding"]
    assert table[table.network == "packed"].largest_change.max() < 1e-3
    padded = table[table.network == "padded"].sort_values(["seed", "length"])
    for _, part in padded.groupby("seed"):
        assert part.mean_change.iloc[0] == 0 and (np.diff(part.mean_change) > 0).all()
    shown = views["padding_formulas"].query("network == 'packed'").groupby(["seed", "formula"]).prediction
    assert np.ptp(shown.agg(["min", "max"]), axis=1).max() < 1e-3


@pytest.mark.parametrize("run, plan, change", [
    (run_padding, PaddingPlan(), {"epochs": 60}), (run_padding, PaddingPlan(), {"shown": ("NaCl",)}),
    (run_padding, PaddingPlan(), {"lengths": (4, 5)}), (run_padding, PaddingPlan(), {"network": "lstm"}),
    (run_transfer, TransferPlan(), {"rate": 1e-3}), (run_transfer, TransferPlan(), {"seeds": (0,)}),
    (run_transfer, TransferPlan(), {"sizes": (10, 20)}), (run_transfer, TransferPlan(), {"family": "halide"})])
def test_what_is_stored_answers_its_own_plan_alone(run, plan, change, root):
    stored = run(root / "results", plan)
    assert len(stored) and set(stored.epochs) == {30}
    with pytest.raises(InputError, match=f"follows another plan .*{next(iter(change))} is .* there, not"):
        run(root / "results", replace(plan, **change))


def test_transfer_was_measured_for_every_seed_and_size(views, embedded):
    table, plan = views["transfer"], TransferPlan()
    assert set(table.n_train) == {0, *plan.sizes} and (table.groupby("n_train").seed.nunique() == len(plan.seeds)).all()
    assert not table.duplicated(["start", "seed", "n_train"]).any() and (table[table.n_train == 0].start == "transfer").all()
    source, pool, test = divide(embedded, plan, 0)
    assert (len(source), len(test)) == (table.n_source[0], table.n_test[0]) and max(plan.sizes) <= len(pool)
    with pytest.raises(InputError, match="cannot be trained on"): divide(embedded, TransferPlan(n_test=300), 0)


@pytest.mark.parametrize("order", ["amount", "electronegativity"])
def test_inner_layers_end_at_the_output(order, fitted, embedded):
    fitted, weights = copy(fitted), fitted.networks_[0].state_dict()
    fitted.config_ = fitted.config_.replace(order=order)
    fitted.networks_ = [build_model(fitted.config_)]
    fitted.networks_[0].load_state_dict(weights)
    inner, formulas = InnerLayers(fitted), embedded.frame["formula"][:50].tolist()
    found, mask = inner.embed_layers(formulas, inner.layers)
    for name, same in ((inner.layers[-1], "output"), ("input", "input"), ("attention-2", "attention-2")):
        x, m = fitted.embed(formulas, same)
        assert np.allclose(found[name] * mask[..., None], x, atol=1e-5) and (mask == m).all()


def test_what_is_stored_is_not_computed_again(root, tmp_path):
    shutil.copytree(root / "results" / "views", tmp_path / "views")
    said = []
    assert len(run_views(tmp_path, say=said.append)) == len(VIEWS) and not said
    with pytest.raises(InputError, match="tables of another plan"): run_views(tmp_path, ViewPlan(epochs=1))
