"Figures are drawn from results alone, the same every time, and the manifest knows when they are not."
import json
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from click.testing import CliRunner

from lgdcnn import InputError, cli_figures, figures
from lgdcnn.figures import figure_state, is_current, list_figures, make_figures, read_figure


@pytest.fixture
def drawn(root, tmp_path):
    "The committed results and figures, in a folder that may be spoilt."
    for name in ("results", "paper_figures"): shutil.copytree(root / name, tmp_path / name)
    return tmp_path / "results", tmp_path / "paper_figures"


def test_committed_figures_are_up_to_date(root):
    stale = [f.name for f in list_figures().values() if not is_current(f, root / "results", root / "paper_figures")]
    assert not stale, f"{stale}: make figures"


@pytest.fixture(scope="module")
def redrawn(root, tmp_path_factory):
    "All figures drawn anew, two at a time, and what was said of each."
    output = tmp_path_factory.mktemp("figures")
    outcomes = {name: (outcome, remark) for name, outcome, remark in
                make_figures(results=root / "results", output=output, jobs=2)}
    return output, outcomes


@pytest.mark.parametrize("name", list_figures())
def test_redrawing_gives_the_same_numbers(name, root, redrawn):
    output, outcomes = redrawn
    assert outcomes[name][0] == "drawn", outcomes[name]
    assert {p.suffix for p in output.glob(f"{name}.*")} == {".csv", ".pdf", ".png"}
    assert (output / f"{name}.csv").read_bytes() == (root / "paper_figures" / f"{name}.csv").read_bytes()
    entries = [json.loads((f / "manifest.json").read_text())[name] for f in (output, root / "paper_figures")]
    assert entries[0]["says"] == entries[1]["says"] != []


def test_drawing_twice_gives_the_same_bytes(root, redrawn, tmp_path):
    output, _ = redrawn
    names = ["fig01_parity", "fig04_cecv_order"]
    assert [o for _, o, _ in make_figures(names, root / "results", tmp_path)] == ["drawn", "drawn"]
    again = {p.name: p.read_bytes() for p in tmp_path.glob("fig*")}
    assert len(again) == 6 and again == {name: (output / name).read_bytes() for name in again}


def test_a_second_run_has_nothing_to_do(root, redrawn):
    output, _ = redrawn
    assert {o for _, o, _ in make_figures(results=root / "results", output=output)} == {"up to date"}


def test_the_figures_numbers_are_the_results(root):
    table = pd.read_csv(root / "paper_figures" / "fig01_parity.csv")
    scores = pd.read_csv(root / "results" / "demo" / "scores.csv").query("model == 'l-g-dcnn' and seed == 0")
    assert (table["target"] - table["prediction"]).abs().mean() == pytest.approx(scores["mae"].iloc[0], abs=1e-5)


def test_the_other_figures_numbers_are_the_results_too(root):
    of = {name: pd.read_csv(root / "paper_figures" / f"{name}.csv") for name in list_figures()}
    scores = pd.read_csv(root / "results" / "demo" / "scores.csv").query("seed == 0").set_index("model")
    assert of["fig05_architecture"]["parameters"].sum() == scores.n_parameters["l-g-dcnn"]
    calibrated = of["fig10_calibration"].query("kind == 'calibrated'").set_index("model")
    spread = of["fig10_calibration"].query("kind == 'calibrated spread' and abs(promised - 0.9) < 1e-6").set_index("model")
    assert spread.observed.to_dict() == pytest.approx(calibrated.observed.to_dict(), abs=0.003)  # at this level they are one and the same
    assert calibrated.observed.to_dict() == pytest.approx(scores.coverage.dropna().to_dict(), abs=1e-5)
    counts = of["fig06_target_region"].query("source == 'published' and threshold == 0.05").set_index("model")["count"]
    assert counts["lstm"] < counts["l-g-dcnn"] < counts["dcnn-k1"]


def test_a_changed_result_or_file_is_noticed(drawn):
    results, output = drawn
    parity = list_figures()["fig01_parity"]
    assert is_current(parity, results, output)
    png = output / "fig01_parity.png"
    original = png.read_bytes()
    png.write_bytes(original + b" ")
    assert figure_state(parity, results, output) == ("to draw", "the files are not those of the manifest")
    png.write_bytes(original)
    table = results / "demo" / "predictions.csv"
    table.write_text(table.read_text().replace("l-g-dcnn", "l-g-dcnn-2", 1))
    assert figure_state(parity, results, output) == ("to draw", "changed: inputs")


def test_a_changed_module_is_noticed_through_others(drawn, monkeypatch, tmp_path):
    parity = list_figures()["fig01_parity"]
    copy = shutil.copytree(Path(figures.__file__).parent, tmp_path / "package")
    monkeypatch.setattr(figures, "__file__", str(copy / "figures.py"))
    assert is_current(parity, *drawn)
    (copy / "config.py").write_text((copy / "config.py").read_text().replace("# %%", "# %% elsewhere"))
    assert is_current(parity, *drawn), "the names of cells are no code"
    (copy / "config.py").write_text((copy / "config.py").read_text() + "x = 1\n")  # imported by plots
    assert figure_state(parity, *drawn) == ("to draw", "changed: package")


def test_a_missing_input_stops_only_that_figure(drawn):
    results, output = drawn
    (results / "demo" / "predictions.csv").unlink()
    run = CliRunner().invoke(cli_figures.figures, ["--results", str(results), "--output", str(output)])
    assert run.exit_code == 1
    assert "fig03_learning: up to date" in run.stdout and "fig01_parity" not in run.stdout
    assert "run lgdcnn demo" in next(line for line in run.stderr.splitlines() if line.startswith("fig01_parity: missing input"))
    listed = CliRunner().invoke(cli_figures.figures, ["--list", "--results", str(results), "--output", str(output)])
    assert listed.exit_code == 0 and "missing input" in listed.stdout


def notebook(tmp_path, *cells, name="fig98_test"):
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}})
    for text, tags in cells:
        make = nbformat.v4.new_markdown_cell if text.startswith("#") else nbformat.v4.new_code_cell
        nb.cells.append(make(text, metadata={"tags": tags}))
    path = tmp_path / f"{name}.ipynb"
    nbformat.write(nb, path)
    return path


PARAMETERS = 'results = None\noutput = None\ninputs = []\nmade_by = ""'


def test_a_failing_notebook_is_reported_and_kept(tmp_path, monkeypatch):
    path = notebook(tmp_path, ("# A figure", []), (PARAMETERS, ["parameters"]), ("1 / 0", []))
    good = notebook(tmp_path, ("# A figure", []), (PARAMETERS, ["parameters"]), ("print('holds')", []), name="fig99_good")
    monkeypatch.setattr(figures, "list_figures", lambda: {p.stem: read_figure(p) for p in (path, good)})
    outcomes = {name: rest for name, *rest in make_figures(results=tmp_path, output=tmp_path / "out", jobs=1)}
    assert outcomes["fig98_test"][0] == "failed" and "ZeroDivisionError" in outcomes["fig98_test"][1]
    assert outcomes["fig99_good"][0] == "drawn"
    assert (tmp_path / "out" / "fig98_test.failed.ipynb").exists()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert list(manifest) == ["fig99_good"] and manifest["fig99_good"]["says"] == ["holds"]


def test_a_notebook_without_parameters_is_refused(tmp_path):
    with pytest.raises(InputError, match="tag 'parameters', 0 have it"):
        read_figure(notebook(tmp_path, ("# A figure", []), (PARAMETERS, [])))


def test_an_unknown_parameter_is_refused(tmp_path):
    path = notebook(tmp_path, ("# A figure", []), ("inputs = []\nmade_by = ''", ["parameters"]))
    assert figures._draw(read_figure(path), tmp_path, tmp_path) == ("failed", "no parameter output, results")


def test_the_manifest_names_every_committed_file(root):
    folder = root / "paper_figures"
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {file for entry in manifest.values() for file in entry["files"]}
    assert listed == {p.name for p in folder.iterdir()} - {"manifest.json"}
    assert set(manifest) == set(list_figures())


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    for k in range(3): notebook(tmp_path, ("# A figure", []), (PARAMETERS, ["parameters"]), name=f"fig9{k}")
    known = {p.stem: read_figure(p) for p in sorted(tmp_path.glob("*.ipynb"))}
    monkeypatch.setattr(figures, "list_figures", lambda: known)
    monkeypatch.setattr(figures, "_drawn", lambda figure, output: {figure.name: "drawn"})  # these draw nothing
    run = make_figures(results=tmp_path, output=tmp_path / "out", jobs=1)
    assert next(run)[:2] == ("fig90", "drawn")
    run.close()  # as an interrupt would
    again = {name: outcome for name, outcome, _ in make_figures(results=tmp_path, output=tmp_path / "out", jobs=1)}
    assert again["fig90"] == "up to date" and again["fig92"] == "drawn"
