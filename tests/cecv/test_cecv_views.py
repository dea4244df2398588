"What is built on CECV: members, agreement, training, comparison, plots and the command."
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from lgdcnn import cecv
from lgdcnn.cecv import members as cecv_members
from lgdcnn.cecv.order import order_table
from lgdcnn.cli.cecv import command, read_formulas
from lgdcnn.composition import ATOMIC_NUMBER, featurize
from lgdcnn.config import MODELS, InputError
from lgdcnn.estimators.regressor import LGDCNNRegressor
from lgdcnn.plots import cecv as cecv_plots
from lgdcnn.studies import cecv_of_networks as cecv_comparison


@pytest.fixture(scope="module")
def env(fitted, embedded):
    return cecv.environments(fitted, embedded.frame["formula"], ("input", "output"))


@pytest.fixture
def ax():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    figure, ax = plt.subplots()
    yield ax
    plt.close("all")


# a real model

def test_a_fitted_model_has_what_cecv_needs(fitted, embedded, env):
    formulas = embedded.frame["formula"]
    alone = cecv.compute(fitted, formulas, "Si", "input")
    assert (alone.counts == cecv.cecv_of(env, "Si", "input").counts).all()
    assert alone.n_compounds == 49 and cecv.cecv_of(env, "O").n_compounds == 287
    with pytest.raises(InputError, match="unknown layer 'rnn'.*attention-1"):
        cecv.compute(fitted, formulas, "Si", "rnn")


def test_output_is_the_last_layer(fitted, embedded):
    env = cecv.environments(fitted, embedded.frame["formula"][:500])
    assert tuple(env.matrices) == fitted.layers
    for n in env.rows:
        assert (env.matrices["output"][n] == env.matrices[fitted.layers[-2]][n]).all()


# members

def test_membership_is_a_partition(env):
    for element in ("O", "Si", "Ni"):
        table, result = cecv_members.membership(env, element, threshold=0.1), cecv.cecv_of(env, element)
        assert len(table) == result.counts[1] and table["compounds"].sum() == result.n_compounds
        names = [m for row in table["members"] for m in row.split(", ")]
        assert len(names) == len(set(names)) == result.n_compounds
        assert all(row.leader in row.members.split(", ") for row in table.itertuples())
        assert table["share"].between(0, 1, inclusive="right").all()


@pytest.mark.parametrize("formula, family, pattern", [
    ("Mg2SiO4", "oxide", "4:2:1"), ("K2SiF6", "fluoride", "6:2:1"), ("CaCu2Si2", "intermetallic", "2:2:1"),
    ("KOH", "oxide", "1:1:1"), ("Fe3C", "carbide", "3:1"), ("LiBH4", "hydride", "4:1:1"), ("ZnCl2", "chloride", "2:1")])
def test_families(formula, family, pattern):
    c = featurize([formula])
    assert cecv_members.anion_families(c)[0] == family and cecv_members.amount_patterns(c)[0] == pattern


def test_agreement_of_a_sorting_with_itself_is_one():
    names = np.array(["a", "a", "b", "b", "c"], dtype=object)
    assert cecv_members._agreement({3: (np.arange(5), None)}, {3: np.array([0, 0, 2, 2, 4])}, names) == pytest.approx(1)


# comparison

def test_published_curves_are_complete_and_fall():
    table = cecv_comparison.published_curves()
    wide = table.pivot(index="model", columns="threshold", values="count")
    assert set(cecv_comparison.PUBLISHED_NAMES.values()) < set(wide.index) and wide.shape == (8, 8)
    assert (wide.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)
    assert wide.loc["L-G-DCNN", 0.05] == 598 and wide.loc["LSTM", 0.4] == 14


def test_comparison_resumes(tmp_path, small_config):
    plan = cecv_comparison.ComparisonPlan("exp_formation_enthalpy", (small_config,), (0,), element="O", look_at="all", epochs=1)
    said = []
    first = cecv_comparison.run_comparison(plan, tmp_path, said.append)
    both = cecv_comparison.ComparisonPlan(plan.dataset, plan.networks, (0, 1), element="O", look_at="all", epochs=1)
    second = cecv_comparison.run_comparison(both, tmp_path, said.append)
    assert len(said) == 2 and len(second) == 2 * len(first)
    assert (second["seed"].drop_duplicates() == [0, 1]).all()
    assert (second["count"] <= second["n_compounds"]).all()


def test_compare_order_ignores_models_without_published_curve():
    table = pd.DataFrame({"model": ["lstm", "dcnn", "mine"], "seed": 0, "layer": "output", "threshold": 0.05,
                          "value": [0.8, 0.2, 0.5]})
    order, tau = cecv_comparison.compare_order(table)
    assert tau == -1 and order["model"].tolist() == ["dcnn", "mine", "lstm"] and order["published"].isna().sum() == 1


def test_published_curves_are_read_at_the_last_branch():
    "Of the networks with a published curve all but the LSTM end in a deep convolution."
    read = {m: cecv_comparison.published_layer(MODELS[m]) for m in cecv_comparison.PUBLISHED_NAMES}
    assert read == {m: "output" if m == "lstm" else "dcnn-branch" for m in read}
    table = pd.DataFrame({"model": ["lstm", "dcnn", "dcnn"], "seed": 0, "layer": ["output", "output", "dcnn-branch"],
                          "threshold": 0.05, "value": [0.5, 0.2, 0.8], "legacy": [5, 9, 3]})
    assert [cecv_comparison.compare_order(table, layer=layer)[1] for layer in ("output", "published")] == [-1, 1]
    assert cecv_comparison.compare_order(table, layer="published", quantity="legacy")[1] == -1
    with pytest.raises(InputError, match="no value of dcnn in the layer 'published'"):
        cecv_comparison.compare_order(table[:2], layer="published")


def test_measure_counts_as_the_reference_in_the_branch(fitted):
    written = ["MgSiO3", "CaSiO3", "Mg2SiO4", "NaAlSi3O8", "KAlSi3O8"]
    table = cecv_comparison.measure(fitted, written, "Si", ("dcnn-branch", "output"), n_orders=2)
    for layer, rows in table.groupby("layer"):
        assert rows["legacy"].tolist() == cecv.compute(fitted, written, "Si", layer, similarity="legacy").counts.tolist()
    assert table.layer.unique().tolist() == ["dcnn-branch", "output"]


# plots

def test_every_element_has_its_own_place():
    places = {z: cecv_plots.table_position(z) for z in ATOMIC_NUMBER.values()}
    assert len(set(places.values())) == 118
    for symbol, column in {"Li": 1, "Ca": 2, "Sc": 3, "Zn": 12, "Al": 13, "Xe": 18, "Lr": 17, "Rf": 4}.items():
        assert places[ATOMIC_NUMBER[symbol]][1] == column


def test_curves_draw_the_numbers(env, ax):
    table = cecv.to_frame(cecv.sweep(env, ["Si", "O"], ["output"]))
    assert cecv_plots.curves(table, "element", ax=ax) is ax
    drawn = dict(zip(["Si", "O"], (line.get_ydata() for line in ax.lines), strict=True))
    for element, y in drawn.items():
        assert np.allclose(y, cecv.cecv_of(env, element).values)


def test_views_return_their_axes(env, ax):
    assert cecv_plots.order_band(order_table(env.group("Si", "output"), n_orders=5), ax=ax) is ax
    assert cecv_plots.periodic_map({"Si": 0.2, "O": 0.4}, ax=ax) is ax
    assert "0.2" in {t.get_text() for t in ax.texts}
    r = cecv.cecv_of(env, "Si", thresholds=(0.1,)).per_size[3][0]
    assert len(cecv_plots.leader_maps(env, "Si", threshold=0.1, most=100)) == r


# the command

@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("model") / "small.lgdcnn")


def shell(saved, *arguments):
    return CliRunner().invoke(command, [str(saved), *map(str, arguments)])


def test_command_equals_the_library(saved, embedded):
    result = shell(saved, "--data", embedded.name, "--part", "all", "--element", "all", "--layer", "input,output",
                   "--format", "json")
    assert result.exit_code == 0, result.output
    model = LGDCNNRegressor.load(saved)
    env = cecv.environments(model, embedded.frame["formula"], ("input", "output"))
    expected = cecv.to_frame(cecv.sweep(env))
    found = pd.DataFrame(json.loads(result.stdout))
    assert (found["element"] == expected["element"]).all() and (found["count"] == expected["count"]).all()


def test_command_reads_files_and_reports_what_it_leaves_out(saved, tmp_path):
    path = tmp_path / "mine.csv"
    pd.DataFrame({"name": ["Mg2SiO4", "CaSiO3", "SiO2", "NaAlSi3O8"]}).to_csv(path, index=False)
    result = shell(saved, "--data", path, "--formula", "name", "--sizes", "3", "--thresholds", "0,2")
    assert result.stdout.split("\n")[1].split() == ["Si", "output", "2", "2", "1"]
    assert "2 compounds have another number of elements" in result.stderr
    assert "2 compounds" not in result.stdout
    shares = shell(saved, "--data", path, "--formula", "name", "--thresholds", "0,2", "--shares").stdout
    assert shares.split("\n")[1].split()[2:] == ["3", "1.000", "0.667"]


@pytest.mark.parametrize("arguments, message", [
    (["--data", "nosuch.csv"], "no file"),
    (["--data", "exp_formation"], "did you mean 'exp_formation_enthalpy'"),
    (["--data", "exp_formation_enthalpy", "--layer", "rnn"], "unknown layer"),
    (["--data", "exp_formation_enthalpy", "--element", "Og"], "no compound contains Og"),
    (["--data", "exp_formation_enthalpy", "--sizes", "2"], "begin sizes at 3"),
    (["--data", "exp_formation_enthalpy", "--sizes", "three"], "not a list of numbers"),
    (["--data", "exp_formation_enthalpy", "--layer", ","], "no layer given"),
])
def test_command_refuses(saved, arguments, message):
    result = shell(saved, *arguments)
    assert isinstance(result.exception, InputError) and message in str(result.exception)


def test_parts_of_a_data_set(embedded):
    parts = [read_formulas(embedded.name, p) for p in ("train", "val", "test")]
    assert sorted(f for p in parts for f in p) == sorted(read_formulas(embedded.name, "all"))


def test_a_network_that_the_benchmark_has_kept_is_measured_and_none_is_trained(tmp_path, monkeypatch):
    "What is missing is named with its command; a network of another configuration is refused; what is stored stays."
    from types import SimpleNamespace

    from lgdcnn.config import ModelConfig
    from lgdcnn.networks.models import build_model
    from lgdcnn.networks.saved import save_network
    from lgdcnn.studies import cecv_of_networks as study
    config = ModelConfig("narrow", ("dcnn",), d_model=16, conv_width=16, n_units=1)
    plan = study.ComparisonPlan("exp_formation_enthalpy", (config,), (0, 1), epochs=None, element="O", look_at="test", kept=str(tmp_path))
    key, said = plan.key(config, 0), []
    made = dict.fromkeys(("device", "threads", "precision", "version", "source", "commit", "torch", "numpy", "finished"), "there")
    row = SimpleNamespace(model_digest=key["model_digest"], protocol_digest=key["protocol_digest"], test={"mae": 0.25}, unit="eV/atom", epochs=60, **made)
    path = lambda cell: tmp_path / f"{cell.model}.{cell.protocol}.seed{cell.seed}.npz"
    monkeypatch.setattr(study, "ResultStore", lambda folder: SimpleNamespace(network_path=path, read=lambda cell: row))
    save_network(tmp_path / "narrow.fast.seed0.npz", build_model(config), {})
    table = study.run_comparison(plan, tmp_path, said.append)
    assert set(table.seed) == {0} and set(table.layer) == {"output", "dcnn-branch"} and set(table.test_mae) == {0.25} and set(table.device) == {"there"}
    assert "lgdcnn benchmark run --cell exp_formation_enthalpy/narrow.fast.fold0.seed1 --in-parts --keep-models" in said[-1]
    save_network(tmp_path / "narrow.fast.seed1.npz", build_model(config), {})
    row.model_digest = "another"
    assert len(study.run_comparison(plan, tmp_path, said.append)) == len(table) and "another network or protocol" in said[-1]
