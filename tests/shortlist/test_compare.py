"Contenders see the same folds; what is recommended can be trained, and what cannot be told apart is named."
import re

import numpy as np
import pandas as pd
import pytest
from conftest import run

from lgdcnn import load_model
from lgdcnn.screening.models import Saved, read_named
from lgdcnn.shortlist import compare as room
from lgdcnn.shortlist.compare import CONTENDERS, behind, beside, contenders, cross_validate, recommendation, scoreboard

pytest.importorskip("lightgbm")
NAMES = ("mean", "nearest-neighbour", "gradient-boosting", "trees")


@pytest.fixture(scope="module")
def rows(embedded):
    return [a[:150] for a in embedded.part("train")]


@pytest.fixture(scope="module")
def table(rows):
    return cross_validate(*rows, NAMES, 3, quick=True)


def test_every_row_is_predicted_once_by_models_that_did_not_see_its_composition(table, rows):
    from lgdcnn.composition import composition_keys
    for _, part in table.groupby("model"): assert sorted(part["row"]) == list(range(150))
    assert table.groupby("row")["fold"].nunique().max() == 1
    keys = composition_keys(table["formula"].tolist())
    assert table.assign(key=keys).groupby("key")["fold"].nunique().max() == 1
    assert np.allclose(table.sort_values(["model", "row"])["measured"].to_numpy().reshape(4, -1), rows[1])


def test_no_row_has_a_say_in_its_own_interval(rows, monkeypatch):
    "A row that is hit by an absurd error widens the intervals of the other folds, not its own."
    y = rows[1].copy()
    plain = cross_validate(rows[0], y, ("mean",), 3)
    monkeypatch.setattr(room, "claimed", lambda model, formulas: (1e3 * np.ones(len(formulas)), np.ones(len(formulas))))
    odd = cross_validate(rows[0], y, ("mean",), 3)
    assert (odd["upper"] - odd["lower"]).nunique() == 3 and (plain["upper"] - plain["lower"]).nunique() == 3
    for part in range(3):
        rest = np.sort(np.abs(odd["measured"] - odd["predicted"])[odd["fold"] != part])
        half = rest[int(np.ceil((len(rest) + 1) * 0.9)) - 1]
        assert np.allclose((odd["upper"] - odd["predicted"])[odd["fold"] == part], half)


def test_the_scoreboard_is_what_one_would_count(table):
    board = scoreboard(table).set_index("model")
    trees = table[table["model"] == "trees"]
    error = (trees["measured"] - trees["predicted"]).abs()
    assert board.loc["trees", "mae"] == pytest.approx(error.mean())
    assert board.loc["trees", "spread"] == pytest.approx(error.groupby(trees["fold"]).mean().std())
    assert board.loc["trees", "coverage"] == pytest.approx(trees["measured"].between(trees["lower"], trees["upper"]).mean())
    assert board["mae"].is_monotonic_increasing and board.index[-1] == "mean" and not board.loc["mean", "tie"]
    found = behind(table, "mean", "trees")
    assert found["difference"] == pytest.approx(board.loc["mean", "mae"] - board.loc["trees", "mae"]) and not found["tie"]


def test_what_is_recommended_can_be_trained(table):
    said = recommendation(table, "eV/atom")
    assert said.startswith("Take trees (") and "over 3 folds of 150 rows: lgdcnn train --architecture trees" in said and "eV/atom" in said
    alone = recommendation(table[table["model"].isin(["mean", "nearest-neighbour"])])
    assert "none of these can be trained by `lgdcnn train`" in alone
    assert recommendation(table[table["model"] == "mean"]).startswith("No model is better than the mean of the target with these 150 rows")


def test_quick_says_what_it_leaves_out(monkeypatch):
    told = []
    assert contenders(True, True, told.append) == tuple(n for n in CONTENDERS if n not in ("l-g-dcnn", "fused"))
    assert told == ["quick: fewer trees, 3 folds, and without l-g-dcnn and fused"]

    def none(): raise room.InputError("LightGBM cannot be loaded")
    monkeypatch.setattr(room, "load_lightgbm", none)
    assert "trees" not in contenders(True, note=told.append) and told[-1] == "without trees: LightGBM cannot be loaded"


def test_beside_is_the_error_on_the_same_rows(rows):
    formulas, y = rows
    found = beside((formulas[:100], y[:100]), (formulas[100:], y[100:]))
    assert found["mean"] == pytest.approx(np.abs(y[100:] - y[:100].mean()).mean()) and found["boosting"] < found["mean"]


def test_the_command(rows, tmp_path):
    pd.DataFrame({"formula": rows[0], "hf": rows[1]}).to_csv(tmp_path / "d.csv", index=False)
    options = ("--model", "mean", "--model", "gradient-boosting", "--quick", "--out", tmp_path / "cv.csv", "--plot", tmp_path / "cv.png")
    code, out, err = run("compare", tmp_path / "d.csv", "--target", "hf", "--unit", "eV/atom", *options)
    assert code == 0 and "MAE (eV/atom)" in out and "inside 90%" in out and "gradient-boosting: MAE" in err, err
    assert len(pd.read_csv(tmp_path / "cv.csv")) == 300 and (tmp_path / "cv.png").read_bytes()[:4] == b"\x89PNG"
    assert "unknown model 'x'" in run("compare", tmp_path / "d.csv", "--target", "hf", "--model", "x")[2]
    assert "say which column to learn with --target" in run("compare", tmp_path / "d.csv")[2]


def test_training_says_what_it_took_and_how_good_that_is(rows, tmp_path, small_config, monkeypatch):
    from lgdcnn.config import MODELS
    monkeypatch.setitem(MODELS, "l-g-dcnn", small_config)
    pd.DataFrame({"formula": rows[0], "hf": rows[1]}).to_csv(tmp_path / "d.csv", index=False)
    one = ("train", tmp_path / "d.csv", "--target", "hf", "--unit", "eV/atom", "--out", tmp_path / "m", "--quiet")
    code, out, err = run(*one, "--epochs", "1")
    assert code == 0 and "this is l-g-dcnn, the default, as no --architecture is named" in err and "`lgdcnn compare` finds out" in err
    assert out.startswith("validation MAE ") and " eV/atom (mean " in out and "boosting " in out
    assert "boosted trees have the lower error on these rows" in err
    code, out, err = run(*one, "--architecture", "trees")
    assert code == 0 and "(fused; mean " in out and "the default" not in err
    assert load_model(tmp_path / "m").target_["unit"] == "eV/atom"
    assert "leave --unit out" in run("train", "exp_formation_enthalpy", "--unit", "K", "--out", tmp_path / "n")[2]


def test_an_ensemble_is_judged_as_one(rows, tmp_path, small_config, monkeypatch):
    from lgdcnn.config import MODELS
    monkeypatch.setitem(MODELS, "l-g-dcnn", small_config)
    pd.DataFrame({"formula": rows[0], "hf": rows[1]}).to_csv(tmp_path / "d.csv", index=False)
    code, out, _ = run("train", tmp_path / "d.csv", "--target", "hf", "--out", tmp_path / "m", "--quiet", "--epochs", "1", "--n-models", "3")
    model = load_model(tmp_path / "m")
    assert code == 0 and out.startswith(f"validation MAE {model.metrics_['mae']:.4g} (3 networks together; mean ")
    assert model.metrics_["mae"] < np.mean([h[-1]["val_mae"] for h in model.history_])


def test_a_unit_in_the_header_is_taken_and_told_unless_another_is_given(rows, tmp_path):
    (path := tmp_path / "d.csv").write_text("formula,hf (eV/atom)\n" + "".join(f"{f},{v}\n" for f, v in zip(*rows, strict=True)))
    asked = ("train", path, "--target", "hf (eV/atom)", "--architecture", "lstm", "--epochs", 1, "--quiet", "--out", tmp_path / "m")
    code, out, err = run(*asked)
    assert code == 0 and "note: the unit is eV/atom, as the column says (see --unit)" in err and re.search(r"validation MAE [\d.]+ eV/atom", out)
    assert load_model(tmp_path / "m").target_ == {"name": "hf (eV/atom)", "unit": "eV/atom"}
    for given in ("meV/atom", ""):
        code, out, err = run(*asked, "--unit", given)
        assert code == 0 and "as the column says" not in err and load_model(tmp_path / "m").target_["unit"] == given
    code, out, err = run("compare", path, "--target", "hf (eV/atom)", "--model", "mean", "--folds", 2)
    assert code == 0 and "as the column says" in err and "MAE (eV/atom)" in out


def test_each_of_several_targets_has_a_unit_of_its_own(rows, tmp_path):
    table = pd.DataFrame({"formula": rows[0], "hf_eV_per_atom": rows[1], "K / GPa": 50 * abs(rows[1])})
    table.to_csv(tmp_path / "d.csv", index=False)
    targets = ("--target", "hf_eV_per_atom", "--target", "K / GPa")
    asked = ("train", tmp_path / "d.csv", *targets, "--architecture", "lstm", "--epochs", 1, "--quiet", "--out", tmp_path / "m")
    for given, units in (((), ["eV/atom", "GPa"]), (("--unit", "meV", "--unit", ""), ["meV", ""])):
        code, out, err = run(*asked, *given)
        assert code == 0 and load_model(tmp_path / "m").target_["units"] == units
        said = [line.partition(f"validation MAE of {name} ")[2].split()[1:] for name, line in zip(targets[1::2], out.splitlines(), strict=True)]
        assert said == [units[:1], units[1:] if units[1] else []]
        assert ("note: the unit of K / GPa is GPa, as the column says" in err) == (not given)
        shown = run("show", tmp_path / "m")[1]
        assert re.search(rf"^unit +{units[0]}, {units[1] or 'not said'}$", shown, re.M)
        assert re.search(rf"^validation MAE of K / GPa +[\d.]+{' GPa' if units[1] else ''}$", shown, re.M)
        assert [t.unit for t in Saved(read_named(f"m={tmp_path / 'm'}")).targets] == units
    for given in (("--unit", "eV"), ("--unit", "eV", "--unit", "GPa", "--unit", "K")):
        code, out, err = run(*asked, *given)
        assert code == 2 and "give --unit for each --target" in err
