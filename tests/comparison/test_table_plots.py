"Views of the table and their plots: what is drawn is what is stored, empty stays empty, and verdicts can go either way."
import re
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

matplotlib.use("agg")
from lgdcnn.benchmark.results import Predictions  # noqa: E402
from lgdcnn.benchmark.store import ResultStore  # noqa: E402
from lgdcnn.comparison.evidence import interval_factor, read_evidence, sample_points, skewness, standard_error  # noqa: E402
from lgdcnn.comparison.table import comparison, leading  # noqa: E402
from lgdcnn.comparison.views import (  # noqa: E402
    coverage_by_set,
    error_by_elements,
    gaps,
    majority,
    ratios,
    regression_sets,
    relative_mae,
    short_name,
)
from lgdcnn.config import InputError  # noqa: E402
from lgdcnn.data.published import published  # noqa: E402
from lgdcnn.plots import table as table_plots  # noqa: E402
from lgdcnn.plots.figures import folders, list_figures  # noqa: E402

BULK, STEELS = "aflow__ael_bulk_modulus_vrh", "matbench_steels"


def run(dataset=BULK, fold=0, seed=0, mae=8.0, model="l-g-dcnn", **more):
    return SimpleNamespace(**{
        "dataset": dataset, "model": model, "protocol": "fast", "fold": fold, "seed": seed, "task": "regression",
        "unit": "GPa", "test": {"mae": mae}, "test_without_pure": {"mae": mae}, "n_test": 100, "n_val": 200,
        "coverage": {"0.9": 0.9}, "test_by_elements": {"2": {"n": 60, "mae": mae}}} | more)


@pytest.fixture(autouse=True)
def close_figures():
    import matplotlib.pyplot as plt
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def stored(root):
    return ResultStore(root / "results" / "benchmark").rows()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.data())
def test_the_factor_gives_the_stored_coverage_back(scores, data):
    scores = np.array(scores)
    share = float((scores <= data.draw(st.sampled_from(sorted(scores)))).mean())
    assert (scores <= interval_factor(scores, share)).mean() == share


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=30), st.floats(1e-6, 1e3), st.floats(-5, 5))
def test_skewness_knows_no_unit(y, scale, shift):
    y = np.round(np.array(y), 3)
    if np.ptp(y) < 0.5: return
    assert skewness(scale * (y + shift)) == pytest.approx(skewness(y), abs=1e-5)
    assert skewness(-y) == pytest.approx(-skewness(y), abs=1e-9)


def test_the_standard_error_falls_with_the_root_of_the_rows():
    e = np.random.default_rng(0).exponential(size=6400)
    assert standard_error(e[:1600], 300) / standard_error(e, 300) == pytest.approx(2, rel=0.15)


def test_points_keep_the_coverage_and_never_repeat_a_row():
    rng = np.random.default_rng(0)
    y = rng.normal(size=500)
    p = Predictions(np.arange(500), y + rng.normal(size=500), rng.uniform(0.5, 2, 500)).rounded()
    scores = np.abs(p.mean - y) / p.std
    row = run(coverage={"0.9": float((scores <= 1.7).mean())})
    points = pd.DataFrame(sample_points(row, p, y, most=10_000))
    inside = points.target.between(points.lower - 1e-4, points.upper + 1e-4).mean()
    assert len(points) == 500 and inside == pytest.approx(row.coverage["0.9"], abs=0.003)
    assert len(sample_points(row, p, y, most=50)) == 50
    assert sample_points(run(coverage={}), p, y, most=5)[0]["lower"] is None


def test_incomplete_folds_are_an_empty_cell():
    records = comparison([run(), run(STEELS, fold=0), run(STEELS, fold=1)])
    view = relative_mae(records)
    assert {r["dataset"] for r in view if r["source"] == "measured"} == {BULK}
    assert {r["dataset"] for r in ratios(records)} == {BULK}
    whole = comparison([run(STEELS, fold=k, mae=100.0 + k) for k in range(5)])
    assert ratios(whole)[0]["to_best"] == pytest.approx(102 / published()[STEELS]["best"])


def test_the_heat_map_prints_each_ratio_once_and_hatches_the_rest():
    view = relative_mae(comparison([run()]))
    ax = table_plots.relative_heatmap(view, regression_sets(), [("l-g-dcnn", "fast"), ("roost", "fast")])
    columns = 2 + len(table_plots.PUBLISHED)
    cells = [p for p in ax.patches if p.get_y() < 28]  # below stands the key
    hatched = [p for p in cells if p.get_hatch()]
    numbers = [t.get_text() for t in ax.texts if t.get_text()[:1].isdigit() and t.get_position()[1] < 28]
    assert len(cells) == 28 * columns and len(numbers) == len(view) == len(cells) - len(hatched)
    assert f"{8 / published()[BULK]['best']:.2f}" in numbers


def test_blue_is_below_and_red_above():
    colours = {}
    for factor in (0.8, 1.25):
        view = [r for r in relative_mae(comparison([run(mae=factor * published()[BULK]["best"])])) if r["source"] == "measured"]
        ax = table_plots.relative_heatmap(view, [BULK], [("l-g-dcnn", "fast")])
        colours[factor] = next(p for p in ax.patches if not p.get_hatch()).get_facecolor()
    assert colours[0.8][2] > colours[0.8][0] and colours[1.25][0] > colours[1.25][2]


def test_seeds_do_not_narrow_the_band_and_folds_do():
    one, seeds, folds = (coverage_by_set(rows)[0] for rows in (
        [run()], [run(seed=s) for s in range(3)], [run(fold=k) for k in range(4)]))
    assert one["chance"] == seeds["chance"] and folds["chance"] == pytest.approx(one["chance"] / 2, rel=0.02)


def test_sets_outside_three_points_look_different():
    lines = coverage_by_set([run(), run("mp_mu_b", coverage={"0.9": 0.94})])
    ax = table_plots.coverage_plot(lines, 0.9)
    assert [line.get_marker() for line in ax.lines if line.get_marker() != "None" and len(line.get_xdata())] == ["o", "D"]
    with pytest.raises(InputError, match="no set has a coverage at 0.5"): table_plots.coverage_plot(lines, 0.5)


def test_errors_by_elements_add_up_to_the_whole(stored):
    for r in error_by_elements(stored, least=0): assert r["n"] > 0 and r["ratio"] > 0
    table = pd.DataFrame(error_by_elements(stored, least=0))
    if len(table): assert (table.n * table.ratio).groupby(table.dataset).sum().to_numpy() == pytest.approx(
        table.n.groupby(table.dataset).sum().to_numpy(), rel=1e-6)


def test_plots_stand_few_sets_and_none():
    for plot in (table_plots.elements_plot, table_plots.ratio_plot): assert plot([]) is not None
    assert "DENSE" in dir(table_plots) and table_plots.relative_heatmap([], [BULK]) is not None


@pytest.mark.parametrize("n", [5, 399, 400, 3000])
def test_parity_loses_no_row(n):
    y = np.random.default_rng(0).normal(size=n)
    points = pd.DataFrame({"target": y, "prediction": y + 0.1, "lower": np.nan, "upper": np.nan})
    ax = table_plots.dense_parity(points, "MAE 0.1 eV")
    shown = len(ax.collections[0].get_offsets()) if n < 400 else int(ax.collections[0].get_array().sum())
    outside = re.search(r"(\d+) outside", ax.get_title())
    beyond = int(outside[1]) if outside else 0
    assert shown + beyond == n
    assert sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() == "^") == beyond, "a triangle for each"
    assert ax.get_xlim() == ax.get_ylim()


def test_one_far_value_does_not_press_the_others_into_a_corner():
    y = np.append(np.random.default_rng(0).normal(size=950), -750)
    ax = table_plots.dense_parity(pd.DataFrame({"target": y, "prediction": y, "lower": np.nan, "upper": np.nan}), "MAE 0 eV", "made up")
    low, high = ax.get_xlim()
    assert -12 < low < -2 and 2 < high < 12 and ax.get_title() == "made up\nMAE 0 eV, 1 outside"


def test_a_diamond_is_drawn_where_the_best_value_is_another_and_covers_no_dot():
    lines = [{"dataset": BULK, "to_paper": 1.02, "to_best": best, "mae": 8.0, "spread": 0.4, "spread_over": "seeds", "n_runs": 2, "folds": 1}
             for best in (1.02, 1.03)]
    ax = table_plots.ratio_plot(lines)
    diamonds = [line for line in ax.lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert [d.get_xdata()[0] for d in diamonds] == [1.03]
    dots = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert diamonds[0].get_zorder() > max(d.get_zorder() for d in dots) and diamonds[0].get_ydata()[0] > 1.25
    assert "one standard deviation" in [t.get_text() for t in ax.get_legend().get_texts()]


def test_bars_that_the_axes_cut_off_end_in_arrows():
    of = {"dataset": BULK, "to_best": None, "mae": 8.0, "spread_over": "seeds", "n_runs": 2, "folds": 1}
    ax = table_plots.ratio_plot([of | {"to_paper": 1.0, "spread": 16.0}, of | {"to_paper": 1.1, "spread": 0.08}])
    assert [line.get_marker() for line in ax.lines if line.get_marker() in ("<", ">")] == ["<", ">"]


def test_the_heat_map_explains_itself():
    view = [r | {"protocol": "large"} for r in relative_mae(comparison([run()]))]
    of = lambda view: " ".join(t.get_text() for t in table_plots.relative_heatmap(view, [BULK], [("l-g-dcnn", "fast")]).texts)
    assert all(words in of(view) for words in ("best published MAE", "at or below", "another protocol than fast", "not run"))
    assert "another protocol" not in of(relative_mae(comparison([run()]))), "the key names what occurs"


@given(st.integers(0, 28), st.integers(0, 28))
def test_a_majority_once_said_is_never_taken_back(a, b):
    yes, filled = min(a, b), max(a, b)
    said = majority(yes, filled, 28)
    rest = 28 - filled
    if "cannot" in said: assert {majority(yes, 28, 28), majority(yes + rest, 28, 28)} == {"the claim holds", "the claim does not hold"}
    else: assert majority(yes, 28, 28) == majority(yes + rest, 28, 28) == said


def test_gaps_are_in_the_unit_and_in_standard_errors():
    evidence = [{"dataset": BULK, "model": "l-g-dcnn", "protocol": "fast", "fold": 0, "seed": 0, "n_test": 100,
                 "standard_error": 0.5, "skewness": 1.0, "share_of_worst": 0.1}]
    line, = gaps(comparison([run(mae=9.0)]), evidence)
    assert line["gap_paper"] == pytest.approx(9 - published()[BULK]["lgdcnn"])
    assert line["gap_paper_in_se"] == pytest.approx(2 * line["gap_paper"])


def test_names_are_told_apart():
    assert len({short_name(d) for d in regression_sets()}) == 28


def test_evidence_is_that_of_the_stored_runs(root, stored):
    kept = {(r.dataset, r.protocol, r.fold, r.seed): r for r in leading(stored) if r.task == "regression" and r.predictions}
    lines = {(r["dataset"], r["protocol"], r["fold"], r["seed"]): r for r in read_evidence(folders(root / "results")[0] / "table")}
    made_by = list_figures()["fig22_parity_table"].parameters["made_by"]
    assert {k: r.predictions for k, r in kept.items()} == {k: r["predictions"] for k, r in lines.items()}, f"run {made_by}"
    for k, r in kept.items():
        assert lines[k]["mae"] == pytest.approx(r.test["mae"], rel=1e-6) and lines[k]["n_test"] == r.n_test
