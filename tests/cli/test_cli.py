"Commands answer on stdout, speak on stderr, and end a mistake with one line and exit code 2."
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import run

from lgdcnn.cli import main


@pytest.fixture(scope="module")
def own(tmp_path_factory, embedded):
    "A table of one's own, as CSV, with the sodium nitride trap, and a model trained on it."
    folder = tmp_path_factory.mktemp("own")
    frame = embedded.frame.iloc[:120].rename(columns={"target": "enthalpy"}).assign(note="x")
    frame.loc[len(frame)] = ["NaN", -0.5, "sodium nitride"]
    frame.to_csv(folder / "own.csv", index=False)
    code, out, err = run("train", folder / "own.csv", "--target", "enthalpy", "--out", folder / "m.lgdcnn",
                         "--architecture", "dcnn-k1", "--epochs", 3, "--quiet")
    assert code == 0 and err.startswith("note: boosted trees have the lower error") and err.endswith(f"saved {folder / 'm.lgdcnn'}\n")
    assert out.startswith("validation MAE ")
    return folder


def test_predictions_agree_with_the_package(own):
    from lgdcnn import LGDCNNRegressor
    mean, std = LGDCNNRegressor.load(own / "m.lgdcnn").predict(["NaCl", "Fe2O3"], return_std=True)
    code, out, err = run("predict", own / "m.lgdcnn", "NaCl", "Fe2O3", "--coverage", 0.5, "--format", "json")
    rows = json.loads(out)
    assert code == 0 and err == "" and [r["formula"] for r in rows] == ["NaCl", "Fe2O3"]
    assert np.allclose([r["prediction"] for r in rows], mean) and np.allclose([r["std"] for r in rows], std)


def test_a_csv_keeps_its_rows_and_columns(own):
    code, out, err = run("predict", own / "m.lgdcnn", "--csv", own / "own.csv", "--out", own / "out.csv", "--coverage", 0.5,
                         "--check", "model")
    assert (code, out, err) == (0, "", f"saved {own / 'out.csv'}\n")
    assert run("predict", own / "m.lgdcnn", "NaCl", "--out", own / "one.csv", "--quiet") == (0, "", "")
    given, answer = (pd.read_csv(own / f, keep_default_na=False) for f in ("own.csv", "out.csv"))
    assert list(answer) == ["formula", "enthalpy", "note", "prediction", "std", "lower", "upper", "unknown_elements",
                            "trace_elements", "distance", "nearest", "outside", "reason"]
    assert answer["formula"].tolist() == given["formula"].tolist() and answer["formula"].iloc[-1] == "NaN"
    assert (answer["lower"] < answer["upper"]).all()


def test_taken_columns_are_refused(own, tmp_path):
    (tmp_path / "t.csv").write_text("formula,std\nNaCl,1\n")
    code, out, err = run("predict", own / "m.lgdcnn", "--csv", tmp_path / "t.csv")
    assert (code, out) == (2, "") and "has a column 'std' already" in err


def test_a_small_table_predicts_without_intervals(tmp_path, embedded):
    "Six held-out rows cannot calibrate 90 %: said at training and at predicting, and the rest is there."
    embedded.frame.iloc[:60].to_csv(tmp_path / "t.csv", index=False)
    code, _, err = run("train", tmp_path / "t.csv", "--target", "target", "--out", tmp_path / "m", "--architecture", "dcnn-k1",
                       "--epochs", 1, "--quiet")
    assert code == 0 and "only 6 rows were held out" in err
    code, out, err = run("predict", tmp_path / "m", "NaCl", "--format", "json")
    assert code == 0 and set(json.loads(out)[0]) == {"formula", "prediction", "std"} and err.startswith("no intervals: ")
    code, out, err = run("predict", tmp_path / "m", "NaCl", "--coverage", 0.9)
    assert (code, out) == (2, "") and "ask for 0.85 at most" in err
    code, out, err = run("train", tmp_path / "t.csv", "--target", "target", "--out", tmp_path / "m", "--architecture", "dcnn-k1",
                         "--epochs", 1, "--quiet", "--validation", 0.3)
    assert code == 0 and "held out" not in err
    assert run("predict", tmp_path / "m", "NaCl")[0] == 0


def test_csv_on_stdout_can_be_piped(own):
    from io import StringIO
    code, out, err = run("predict", own / "m.lgdcnn", "MgO", "--format", "csv", "--coverage", 0.5)
    assert list(pd.read_csv(StringIO(out))) == ["formula", "prediction", "std", "lower", "upper"]


def test_parquet_trains_too(own, tmp_path):
    pd.read_csv(own / "own.csv", keep_default_na=False).to_parquet(tmp_path / "own.parquet")
    code, out, _ = run("train", tmp_path / "own.parquet", "--target", "enthalpy", "--out", tmp_path / "m.lgdcnn",
                       "--architecture", "dcnn-k1", "--epochs", 1, "--quiet")
    assert code == 0 and (tmp_path / "m.lgdcnn").exists()


def test_a_named_data_set_is_scored_on_its_test_rows(tmp_path):
    code, out, _ = run("train", "exp_formation_enthalpy", "--out", tmp_path / "m.lgdcnn", "--architecture", "dcnn-k1",
                       "--epochs", 1, "--quiet")
    assert code == 0 and "test MAE" in out and "eV/atom (427 rows)" in out


def test_check_names_what_is_far_from_the_training_table(own, tmp_path):
    from lgdcnn.trust.applicability import Applicability
    (tmp_path / "c.csv").write_text("formula\n" + "NaCl\nXeF6\nAl2O3\nPuO2\nNaN\n" * 2)
    code, out, err = run("predict", own / "m.lgdcnn", "--csv", tmp_path / "c.csv", "--check", own / "own.csv", "--chunk", 3,
                         "--format", "json", "--coverage", 0.5)
    got = pd.DataFrame(json.loads(out))
    known = pd.read_csv(own / "own.csv", keep_default_na=False)["formula"]
    expected = Applicability().fit(known).check(got["formula"])
    columns = ["distance", "nearest", "outside", "reason"]
    assert (code, err, list(got)[-4:]) == (0, "", columns)
    pd.testing.assert_frame_equal(got[columns], expected[columns], check_exact=False, atol=1e-6)
    assert "no training formula contains Xe" in got["reason"][1]


def test_a_model_knows_its_elements(own, tmp_path):
    (tmp_path / "c.csv").write_text("formula\nAl2O3\nXeF6\nPuO2\n")
    ask = ("predict", own / "m.lgdcnn", "--csv", tmp_path / "c.csv", "--coverage", 0.5, "--chunk", 2)
    code, out, err = run(*ask)
    assert code == 0 and "unknown_elements" not in out
    assert "not trained on stand in 2 of the formulas, like XeF6 (" in err and len(err.splitlines()) == 1
    code, out, err = run(*ask, "--check", "model", "--format", "json")
    unknown = [r["unknown_elements"] for r in json.loads(out)]
    assert (code, err, unknown[0]) == (0, "", "") and "Xe" in unknown[1] and "Pu" in unknown[2]
    from lgdcnn import LGDCNNRegressor
    model = LGDCNNRegressor.load(own / "m.lgdcnn")
    model.elements_ = None  # as in a file of an older version
    model.save(tmp_path / "old.lgdcnn")
    assert run("predict", tmp_path / "old.lgdcnn", "XeF6", "--coverage", 0.5)[2] == ""
    code, out, err = run("predict", tmp_path / "old.lgdcnn", "XeF6", "--coverage", 0.5, "--check", "model")
    assert (code, out) == (2, "") and "does not say which elements" in err


def test_a_model_knows_its_domain_without_the_table(own, tmp_path):
    from lgdcnn import LGDCNNRegressor
    ask = ("NaCl", "XeF6", "Al2O3Ag1e-6", "--coverage", 0.5, "--format", "json")
    code, out, err = run("predict", own / "m.lgdcnn", *ask, "--check", "model")
    model = LGDCNNRegressor.load(own / "m.lgdcnn")
    assert code == 0 and len(model.formulas_) == model.n_train_  # each composition once
    (tmp_path / "trained.csv").write_text("\n".join(["formula", *model.formulas_]))
    same = json.loads(run("predict", own / "m.lgdcnn", *ask, "--check", tmp_path / "trained.csv")[1])
    told = ("distance", "nearest", "outside", "reason")
    assert [[r[c] for c in told] for r in json.loads(out)] == [[r[c] for c in told] for r in same]
    assert [r["outside"] for r in same][1:] == [True, True] and same[1]["nearest"] in model.formulas_
    model.formulas_ = None  # as in a file of an older version, or when they are too many
    model.save(tmp_path / "old.lgdcnn")
    rows = json.loads(run("predict", tmp_path / "old.lgdcnn", *ask, "--check", "model")[1])
    assert "distance" not in rows[0] and "Xe" in rows[1]["unknown_elements"]


def test_traces_are_told_on_stderr_or_in_a_column(own, tmp_path):
    (tmp_path / "c.csv").write_text("formula\nAl2O3\nAl2O3Ag1e-6\nAg2OAl0.00001\n")
    ask = ("predict", own / "m.lgdcnn", "--csv", tmp_path / "c.csv", "--coverage", 0.5, "--chunk", 2)
    code, out, err = run(*ask)
    assert code == 0 and len(err.splitlines()) == 1 and "stand in 2 of the formulas, like Al2O3Ag1e-6 (Ag)" in err
    code, out, err = run(*ask, "--check", "model", "--format", "json")
    assert (code, err, [r["trace_elements"] for r in json.loads(out)]) == (0, "", ["", "Ag", "Al"])
    code, out, err = run(*ask, "--check", own / "own.csv", "--format", "json")
    rows = json.loads(out)
    assert [r["outside"] for r in rows] == [False, True, True] and "a trace of Ag: no training formula" in rows[1]["reason"]
    from lgdcnn import LGDCNNRegressor
    model = LGDCNNRegressor.load(own / "m.lgdcnn")
    model.smallest_fraction_ = None  # as in a file of an older version: nothing known, nothing said
    model.save(tmp_path / "old.lgdcnn")
    code, out, err = run("predict", tmp_path / "old.lgdcnn", "Al2O3Ag1e-6", "--coverage", 0.5, "--check", "model")
    assert (code, err) == (0, "") and "trace_elements" not in out


def test_std_is_calibrated_and_raw_std_is_asked_for(own, embedded):
    from lgdcnn import LGDCNNRegressor
    model = LGDCNNRegressor.load(own / "m.lgdcnn")
    code, out, err = run("predict", own / "m.lgdcnn", "NaCl", "--coverage", 0.5, "--format", "json", "--raw-std")
    row = json.loads(out)[0]
    assert code == 0 and list(row) == ["formula", "prediction", "std", "raw_std", "lower", "upper"]
    assert row["std"] == pytest.approx(model.std_factor_[0] * row["raw_std"]) and model.std_factor_[0] != 1
    assert row["upper"] - row["prediction"] == pytest.approx(model.interval_multiple(0.5)[0] * row["raw_std"])
    model.scores_ = model.scores_[:0]  # nothing held out
    model.save(own / "raw.lgdcnn")
    code, out, err = run("predict", own / "raw.lgdcnn", "NaCl", "--format", "json")
    assert json.loads(out)[0]["std"] == pytest.approx(row["raw_std"]) and len(err.splitlines()) == 1
    assert err.startswith("no intervals") and "std is the network's own" in err


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_predictions_are_drawn(own, tmp_path, ending):
    out = tmp_path / f"p.{ending}"
    (tmp_path / "p.csv").write_text("formula,y,prediction,std,lower,upper\nNaCl,1,1.5,.1,1,2\nMgO,,2,.1,1,3\nFe,0,0,.1,-1,1\n")
    for target in ((), ("--target", "y", "--unit", "eV")):
        code, text, err = run("plot", tmp_path / "p.csv", "--out", out, *target)
        assert (code, text, err) == (0, "", f"saved {out}\n") and out.stat().st_size > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.csv", out.name]


PLOTS = {
    "formula,y\nNaCl,1\n": "has no column 'prediction'", "prediction\n": "has no rows", "prediction,y\nx,1\n": "row 0: the prediction is 'x'",
    "prediction,y\n1,1\n2,x\n": "row 1: y is 'x', not a finite number", "prediction,y\n1,\n": "the column 'y' is empty",
    "prediction,p(a),y\na,0.5,a\n": "predicts classes", "prediction,z\n1,2\n": "no column 'y'", "": "is empty",
}


@pytest.mark.parametrize("content", PLOTS)
def test_what_cannot_be_drawn_is_refused(content, tmp_path):
    (tmp_path / "p.csv").write_text(content)
    code, out, err = run("plot", tmp_path / "p.csv", "--out", tmp_path / "p.png", "--target", "y")
    assert (code, out, len(err.splitlines())) == (2, "", 1) and PLOTS[content] in err, err
    code, out, err = run("plot", tmp_path / "p.csv", "--out", tmp_path / "p.gif", "--target", "y")
    assert code == 2 and "unknown kind of picture '.gif'" in err
    assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]


TABLES = {
    "good": "formula,gap\nNaCl,1\nKCl,2\n", "nan": "formula,gap\nNaCl,1\nKCl,\n", "text": "formula,gap\nNaCl,1\nKCl,n/a\n",
    "infinite": "formula,gap\nNaCl,inf\nKCl,1\n", "formula": "formula,gap\nNaCl,1\nKClx,2\n", "zero": "formula,gap\nNaCl0,1\n",
    "negative": "formula,gap\nNa-1Cl,1\n", "element": "formula,gap\nNaCl,1\nXxO,2\n", "header": "formula,gap\n", "empty": "",
    "columns": "name,gap\nNaCl,1\n", "binary": "\x00\x01\x02",
}
BAD_TRAINING = {
    "nan": "row 1: the target is ''", "text": "row 1: the target is 'n/a'", "infinite": "row 0: the target is 'inf'",
    "formula": "row 1: cannot read formula 'KClx'", "zero": "row 0: .*zero", "negative": "row 0: .*negative",
    "element": "row 1: .*not an element", "header": "no formulas were given", "empty": "is empty",
    "columns": "no formula column 'formula': its columns are 'name', 'gap' .see --formula.", "binary": "no formula column|cannot be read as a table",
}


@pytest.mark.parametrize("kind", BAD_TRAINING)
def test_bad_tables_end_training(kind, tmp_path):
    import re
    (tmp_path / "t.csv").write_text(TABLES[kind])
    code, out, err = run("train", tmp_path / "t.csv", "--target", "gap", "--out", tmp_path / "m.lgdcnn", "--quiet")
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert re.search(BAD_TRAINING[kind], err), err
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"], "something was left behind"


BAD_COMMANDS = {
    "target of a data set": (["train", "exp_formation_enthalpy", "--target", "x", "--out", "{d}/m"], "has one target"),
    "out is a folder": (["train", "{t}", "--target", "gap", "--out", "{d}"], "is a folder"),
    "data is a folder": (["train", "{d}", "--target", "gap", "--out", "{d}/m"], "is a folder"),
    "seed": (["train", "{t}", "--target", "gap", "--out", "{d}/m", "--seed", "-1"], "seed = -1"),
    "demo epochs": (["demo", "--epochs", "-1", "--out", "{d}/demo"], "epochs = -1"),
    "no size": (["cecv", "{m}", "--data", "{t}", "--element", "all", "--sizes", "9"], "--sizes"),
    "no element": (["cecv", "{m}", "--data", "exp_formation_enthalpy", "--element", "Xx"], "unknown element"),
    "no command of that name": (["trian"], "No such command"),
    "unknown option": (["train", "x.csv", "--targte", "gap", "--out", "m"], "No such option"),
    "missing option": (["train", "{t}"], "Missing option '--out'"),
    "no target": (["train", "{t}", "--out", "{d}/m"], "say which column to learn with --target"),
    "wrong target": (["train", "{t}", "--target", "bandgap", "--out", "{d}/m"], "no target column 'bandgap'"),
    "no file": (["train", "{d}/none.csv", "--target", "gap", "--out", "{d}/m"], "there is no file"),
    "no data set": (["train", "exp_formation_entalpy", "--out", "{d}/m"], "did you mean 'exp_formation_enthalpy'"),
    "no folder": (["train", "{t}", "--target", "gap", "--out", "{d}/no/m"], "there is no folder"),
    "architecture": (["train", "{t}", "--target", "gap", "--out", "{d}/m", "--architecture", "l-g"], "unknown architecture"),
    "epochs": (["train", "{t}", "--target", "gap", "--out", "{d}/m", "--epochs", "0"], "epochs = 0"),
    "epochs text": (["train", "{t}", "--target", "gap", "--out", "{d}/m", "--epochs", "ten"], "not a valid integer"),
    "device": (["train", "{t}", "--target", "gap", "--out", "{d}/m", "--device", "warp"], "warp"),
    "no model": (["predict", "{d}/none.lgdcnn", "NaCl"], "there is no model file"),
    "damaged model": (["predict", "{t}", "NaCl"], "no model file, or damaged"),
    "nothing to predict": (["predict", "{m}"], "one of the two"),
    "two sources": (["predict", "{m}", "NaCl", "--csv", "{t}"], "one of the two"),
    "bad formula": (["predict", "{m}", "NaCl", "Fe2O3)"], "row 1: cannot read formula 'Fe2O3)'"),
    "coverage": (["predict", "{m}", "NaCl", "--coverage", "1.5"], "between 0 and 1"),
    "too much coverage": (["predict", "{m}", "NaCl", "--coverage", "0.999"], "held-out rows"),
    "no column": (["predict", "{m}", "--csv", "{t}", "--formula", "composition"], "no formula column 'composition'"),
    "no out folder": (["predict", "{m}", "NaCl", "--out", "{d}/no/out.csv"], "there is no folder"),
    "figure": (["figures", "fig01_party"], "did you mean 'fig01_parity'"),
    "demo folder": (["demo", "--out", "{t}"], "cannot be made"),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_mistakes_are_one_line_and_exit_code_2(case, own, tmp_path):
    args, message = BAD_COMMANDS[case]
    (tmp_path / "t.csv").write_text(TABLES["good"])
    places = {"t": tmp_path / "t.csv", "d": tmp_path, "m": own / "m.lgdcnn"}
    code, out, err = run(*(a.format(**places) for a in args))
    assert (code, out, len(err.splitlines())) == (2, "", 1), (out, err)
    assert message in err
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"], "something was left behind"


def test_a_failure_is_exit_code_1(own, monkeypatch):
    import lgdcnn.estimators.regressor
    def broken(*args, **kw): raise RuntimeError("the network\nis on fire")
    monkeypatch.setattr(lgdcnn.estimators.regressor.LGDCNNRegressor, "predict", broken)
    code, out, err = run("predict", own / "m.lgdcnn", "NaCl")
    assert (code, out) == (1, "") and err.startswith("Error: RuntimeError: the network is on fire")
    assert isinstance(CliRunner().invoke(main, ["--debug", "predict", str(own / "m.lgdcnn"), "NaCl"]).exception, RuntimeError)


def test_help_is_quick_and_complete():
    code, out, _ = run("--help")
    assert code == 0 and all(word in out for word in ("demo", "train", "predict", "figures", "datasets"))
    probe = "import sys, lgdcnn.cli; assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True)


@pytest.mark.parametrize("running, told, expected", [
    (1, {}, {"GOMP_SPINCOUNT": "10000"}), (2, {}, {"OMP_WAIT_POLICY": "PASSIVE"}), (None, {}, {"OMP_WAIT_POLICY": "PASSIVE"}),
    (1, {"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}), (3, {"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"})])
def test_threads_look_around_only_where_nothing_else_runs(running, told, expected, monkeypatch):
    monkeypatch.setattr("lgdcnn.cli._running", lambda: running)
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    for name in names: monkeypatch.setenv(name, "")  # so that what the command sets is undone
    for name in names: monkeypatch.delenv(name)
    for name, value in told.items(): monkeypatch.setenv(name, value)
    assert run("completion", "bash")[0] == 0
    assert {name: os.environ[name] for name in names if name in os.environ} == expected


def test_the_installed_command(own):
    from pathlib import Path
    command = Path(sys.executable).with_name("lgdcnn")
    r = subprocess.run([command, "predict", own / "m.lgdcnn", "Fe2O3x"], capture_output=True, text=True)
    assert (r.returncode, r.stdout) == (2, "") and "row 0: cannot read formula 'Fe2O3x'" in r.stderr


def test_parts_make_the_same_answer(own, tmp_path):
    "One part or many, CSV or parquet, CSV or JSON: the same rows; other columns pass through."
    table = pd.read_csv(own / "own.csv", keep_default_na=False, dtype=str)
    table.to_parquet(tmp_path / "own.parquet")
    answers = []
    for source, chunk in ((own / "own.csv", 20_000), (own / "own.csv", 7), (tmp_path / "own.parquet", 50)):
        code, _, err = run("predict", own / "m.lgdcnn", "--csv", source, "--out", tmp_path / "o.csv", "--chunk", chunk, "--coverage", 0.5)
        saved, note = err.splitlines()
        assert code == 0 and saved == f"saved {tmp_path / 'o.csv'}"
        assert note.startswith("note: elements that the model was not trained on stand in 1 of the formulas")
        answers.append(pd.read_csv(tmp_path / "o.csv", keep_default_na=False))
    for other in answers[1:]: pd.testing.assert_frame_equal(answers[0], other, rtol=1e-4, atol=1e-5)
    code, out, _ = run("predict", own / "m.lgdcnn", "--csv", own / "own.csv", "--format", "json", "--chunk", 9, "--coverage", 0.5)
    rows = pd.DataFrame(json.loads(out))
    assert rows["note"].tolist() == table["note"].tolist() and np.allclose(rows["prediction"], answers[0]["prediction"], atol=1e-4)


def test_a_mistake_far_down_names_its_row_and_leaves_the_old_file(own, tmp_path):
    (tmp_path / "t.csv").write_text("formula\n" + "NaCl\n" * 25 + "Fe2O3x\n")
    (tmp_path / "o.csv").write_text("old")
    code, out, err = run("predict", own / "m.lgdcnn", "--csv", tmp_path / "t.csv", "--chunk", 10, "--out", tmp_path / "o.csv", "--coverage", 0.5)
    assert (code, out) == (2, "") and "row 25: cannot read formula 'Fe2O3x'" in err
    assert (tmp_path / "o.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 2


def test_classes_from_a_table(tmp_path, embedded):
    frame = embedded.frame.iloc[:80].assign(kind=lambda t: np.where(t.target < -1, "ionic", "metallic"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    code, out, err = run("train", tmp_path / "t.csv", "--target", "kind", "--task", "classification", "--out", tmp_path / "m",
                         "--architecture", "dcnn-k1", "--epochs", 1, "--quiet")
    assert code == 0 and out.startswith("validation: accuracy ") and "roc auc" in out, err
    code, out, _ = run("predict", tmp_path / "m", "NaCl", "Fe", "--format", "json")
    assert code == 0 and set(json.loads(out)[0]) == {"formula", "prediction", "p(ionic)", "p(metallic)"}
    code, out, err = run("train", tmp_path / "t.csv", "--target", "kind", "--out", tmp_path / "n", "--quiet")
    assert (code, out) == (2, "") and "not a finite number" in err


def test_what_the_package_warns_of_is_a_note(tmp_path):
    (tmp_path / "t.csv").write_text(" formula , gap\n" + "NaCl,1\nClNa,2\nKCl,3\nMgO,2\nFe,0\n")
    code, _, err = run("train", tmp_path / "t.csv", "--target", "gap", "--out", tmp_path / "m", "--architecture", "dcnn-k1",
                       "--epochs", 1, "--quiet")
    note, *rest = err.splitlines()
    assert code == 0 and note.startswith("note: 1 compositions (2 rows) stand in several rows with different targets, like ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    code, out, _ = run("completion", shell)
    assert code == 0 and "_LGDCNN_COMPLETE" in out and "lgdcnn" in out


def test_a_killed_run_leaves_the_old_file(own, tmp_path):
    "Interrupted while it writes: the old file stands, and no part beside it."
    import signal
    import time
    (tmp_path / "t.csv").write_text("formula\n" + "NaCl\n" * 400_000)
    (tmp_path / "o.csv").write_text("old")
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from lgdcnn.cli import main; main()"
    command = [sys.executable, "-c", start, "predict", own / "m.lgdcnn", "--csv", tmp_path / "t.csv", "--chunk", "200",
               "--out", tmp_path / "o.csv", "--coverage", "0.5"]  # a shell's background jobs ignore Ctrl-C, and so would this one
    p = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".o.csv*")) and p.poll() is None and time.monotonic() < end: time.sleep(0.05)
    assert list(tmp_path.glob(".o.csv*")), "it never began to write"
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 1 and out == b"" and b"Traceback" not in err
    assert (tmp_path / "o.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 2


def test_rows_for_the_model_in_the_package_can_be_skipped(tmp_path):
    (path := tmp_path / "t.csv").write_text("name,formula\na,NaCl\nb,XxQ\nc,MgO\nd,KF,1\n")
    code, out, err = run("predict", "--property", "band_gap_mp", "--csv", path, "--on-error", "skip", "--rejects", tmp_path / "r.csv", "--format", "csv")
    assert code == 0 and [line.split(",")[:2] for line in out.splitlines()[1:]] == [["a", "NaCl"], ["c", "MgO"]] and "skipped 2 of 4 rows" in err
    assert [line.split(",")[0] for line in (tmp_path / "r.csv").read_text().splitlines()] == ["line", "3", "5"]
    code, out, err = run("predict", "--property", "band_gap_mp", "NaCl", "--on-error", "skip")
    assert code == 2 and "is for the rows of a table" in err
    (path).write_text("formula\nXxQ\n")
    assert "has no row that can be read" in run("predict", "--property", "band_gap_mp", "--csv", path, "--on-error", "skip")[2]


def test_a_name_that_is_too_long_is_one_line_and_keeps_its_end():
    code, _, err = run("check", "x" * 300 + ".csv")
    assert code == 2 and err.rstrip().endswith("x.csv' cannot be read (File name too long)") and len(err) < 140
