"Nothing in a picture covers what is to be read, and what it shows is named in it."
import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402
from bad_pictures import faults  # noqa: E402

from lgdcnn.config import MODELS, InputError  # noqa: E402
from lgdcnn.networks.models import build_model  # noqa: E402
from lgdcnn.plots.architecture import draw_network, parts  # noqa: E402
from lgdcnn.plots.cecv import curves, epoch_curves  # noqa: E402
from lgdcnn.plots.maps import name_points  # noqa: E402
from lgdcnn.plots.style import cecv_curves, learning_curves, parity, reliability, set_style, with_unit  # noqa: E402
from lgdcnn.plots.table import coverage_plot, dense_parity, elements_plot  # noqa: E402
from lgdcnn.plots.trust import colour_limits, ternary_plot  # noqa: E402


@pytest.fixture(autouse=True)
def fresh():
    set_style()
    yield
    plt.close("all")


def words(ax): return [t.get_text() for t in ax.get_legend().get_texts()]


@pytest.mark.parametrize("spoil, says", [
    (lambda ax: ax.set_xlabel("threshold (1)"), "a unit that is none: threshold (1)"),
    (lambda ax: ax.text(0.52, 0.7, "another"), "'another' covers 'a note'"),
    (lambda ax: ax.plot([0.5, 0.7], [0.708, 0.708]), "'a note' covers data"),
    (lambda ax: ax.plot([0.55], [0.708], "o"), "'a note' covers data"),
    (lambda ax: ax.scatter([0.55], [0.708]), "'a note' covers data"),
    (lambda ax: (ax.plot([0.2, 1], [0.97, 0.97], label="a line"), ax.legend(loc="upper right")), "the key covers data")])
def test_a_fault_is_seen(spoil, says):
    "The judge itself: a picture without a fault has none, and each that is made is named."
    ax = plt.subplots()[1]
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="threshold")
    ax.text(0.5, 0.7, "a note")
    assert faults(ax.figure) == []
    spoil(ax)
    assert says in faults(ax.figure)


@pytest.mark.parametrize("unit, label", [("eV", "MAE (eV)"), ("1", "MAE"), ("", "MAE")])
def test_a_pure_number_has_no_unit(unit, label): assert with_unit("MAE", unit) == label


def test_a_pure_number_has_no_unit_on_any_axis():
    y = np.linspace(0.1, 1, 9)
    table = pd.DataFrame({"model": "l-g-dcnn", "layer": "gru", "threshold": y, "promised": y, "observed": y, "value": y, "epoch": y,
                          "val_mae": y})
    drawn = [parity(y, y, unit="1"), cecv_curves(table), reliability(table), curves(table), epoch_curves(table, y[:2]),
             learning_curves(table)]
    labels = [label for ax in drawn for label in (ax.get_xlabel(), ax.get_ylabel())]
    assert all(labels) and not [label for label in labels if "(1)" in label or "()" in label]


def test_a_parity_plot_names_its_lines():
    y = np.linspace(-1, 1, 9)
    ends = np.stack([y - 0.1, y + 0.1], 1)
    ends[0] += 1
    ax = parity(y, y, ends)
    assert words(ax) == ["a compound", "interval that misses", "interval", "predicted = measured"] and faults(ax.figure) == []


def test_the_target_region_is_named_last():
    t = np.arange(1, 9) * 0.05
    table = pd.concat([pd.DataFrame({"model": m, "threshold": t, "value": np.exp(-k * t)})
                       for m, k in (("dcnn-k1", 2), ("l-g-dcnn", 5), ("lstm", 9))])
    ax = cecv_curves(table)
    assert words(ax)[-1] == "target region" and "target region" not in words(cecv_curves(table, region=None))


def test_boxes_are_as_high_as_their_modules_are_large():
    net = build_model(MODELS["l-g-dcnn"])
    ax, table = draw_network(net), parts(net)
    heights = np.array([box.get_height() for box in ax.patches])
    own = table.groupby("module").parameters.transform("max").to_numpy()
    assert heights ** 2 / heights.max() ** 2 == pytest.approx(own / own.max())
    assert faults(ax.figure) == [] and "√" in " ".join(t.get_text() for t in ax.texts)


def triangle(n=12):
    f = np.array([(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)]) / n
    return pd.DataFrame({"formula": "x", "Li": f[:, 0], "Cu": f[:, 1], "O": f[:, 2], "std": 0.1 + 0.1 * f[:, 0]})


def test_where_nothing_is_known_a_veil_hides_the_colours():
    table = triangle()
    outside = table["Li"].to_numpy() > 0.5
    bare, veiled = ternary_plot(table, "std"), ternary_plot(table, "std", outside=outside)
    assert len(veiled.collections) == len(bare.collections) + 1
    assert "outside the domain" in veiled.get_legend_handles_labels()[1] and "outside the domain" not in bare.get_legend_handles_labels()[1]
    assert len(ternary_plot(table, "std", outside=outside & False).collections) == len(bare.collections), "nothing to hide"
    with pytest.raises(InputError, match="one value for each of 91 rows"): ternary_plot(table, "std", outside=outside[:3])


def test_one_corner_does_not_stretch_the_colours():
    table = triangle()
    table.loc[table["O"] == 1, "std"] = 50
    low, high = colour_limits(table["std"])
    assert 0.1 <= low < high < 0.25
    assert colour_limits(table["std"], table["Li"] < 0.5)[0] > low and colour_limits(table["std"], table["Li"] < 2) == (low, high)


def test_names_beside_points_cover_nothing():
    rng = np.random.default_rng(0)
    ax = plt.subplots(figsize=(3.3, 2.5))[1]
    x, y = rng.uniform(0.2, 0.8, (2, 7))
    ax.plot(x, y, "o")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    name_points(ax, x, y, ["L-ATT-RES-DCNN"] * 7)
    assert faults(ax.figure) == [] and len(ax.texts) == 7


def test_what_a_dense_panel_says_stands_above_it():
    y = np.random.default_rng(0).normal(size=900)
    table = pd.DataFrame({"target": y, "prediction": y[::-1], "lower": y[::-1] - 1, "upper": y[::-1] + 1})
    ax = dense_parity(table, "MAE 1.1 eV\nn = 900", "everywhere")
    assert not ax.texts and ax.get_title().startswith("everywhere\nMAE 1.1 eV\nn = 900")


def test_numbers_of_elements_that_do_not_occur_take_no_room():
    lines = [{"dataset": d, "n_elements": n, "ratio": 1.0 + 0.1 * k} for k, d in enumerate("abcde") for n in (2, 3, 11)]
    ax = elements_plot(lines)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "3", "11"] and np.ptp(ax.get_xlim()) < 4
    assert words(ax) == ["a set, of 5", "median of sets"]


def test_coverage_has_a_key():
    line = {"dataset": "mp_mu_b", "nominal": 0.9, "found": 0.91, "chance": 0.02}
    assert coverage_plot([line], 0.9).get_legend_handles_labels()[1] == [
        "within 3 points", "farther than 3 points", "95 % of what chance allows", "nominal", "3 points off"]
