"Figures are drawn from results alone, the same every time, and the manifest knows when they are not."
import json
import shutil

import nbformat
import pandas as pd
import pytest

from lgdcnn import InputError, figures
from lgdcnn.figures import is_current, list_figures, make_figures, read_figure


@pytest.fixture
def drawn(root, tmp_path):
    "The committed results and figures, in a folder that may be spoilt."
    for name in ("results", "paper_figures"): shutil.copytree(root / name, tmp_path / name)
    return tmp_path / "results", tmp_path / "paper_figures"


def test_committed_figures_are_up_to_date(root):
    stale = [f.name for f in list_figures().values() if not is_current(f, root / "results", root / "paper_figures")]
    assert not stale, f"{stale}: make figures"


@pytest.mark.parametrize("name", list_figures())
def test_redrawing_gives_the_same_numbers(name, root, tmp_path):
    outcomes = list(make_figures([name], results=root / "results", output=tmp_path))
    assert [o[:2] for o in outcomes] == [(name, "drawn")], outcomes
    assert {p.name for p in tmp_path.iterdir()} == {f"{name}.csv", f"{name}.pdf", f"{name}.png", "manifest.json"}
    assert (tmp_path / f"{name}.csv").read_bytes() == (root / "paper_figures" / f"{name}.csv").read_bytes()
    assert list(make_figures([name], results=root / "results", output=tmp_path)) == [(name, "up to date", "")]


def test_the_figures_numbers_are_the_results(root):
    table = pd.read_csv(root / "paper_figures" / "fig01_parity.csv")
    scores = pd.read_csv(root / "results" / "demo" / "scores.csv").query("model == 'l-g-dcnn' and seed == 0")
    assert (table["target"] - table["prediction"]).abs().mean() == pytest.approx(scores["mae"].iloc[0], abs=1e-5)


def test_a_changed_result_or_file_is_noticed(drawn):
    results, output = drawn
    parity = list_figures()["fig01_parity"]
    assert is_current(parity, results, output)
    png = output / "fig01_parity.png"
    original = png.read_bytes()
    png.write_bytes(original + b" ")
    assert not is_current(parity, results, output)
    png.write_bytes(original)
    table = results / "demo" / "predictions.csv"
    table.write_text(table.read_text().replace("l-g-dcnn", "l-g-dcnn-2", 1))
    assert not is_current(parity, results, output)


def test_a_missing_input_stops_only_that_figure(drawn):
    results, output = drawn
    (results / "demo" / "predictions.csv").unlink()
    outcomes = {name: (outcome, remark) for name, outcome, remark in make_figures(results=results, output=output)}
    assert outcomes["fig01_parity"][0] == "missing input" and "run lgdcnn demo" in outcomes["fig01_parity"][1]
    assert outcomes["fig03_learning"][0] == "up to date"


def notebook(tmp_path, *cells):
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}})
    for text, tags in cells:
        make = nbformat.v4.new_markdown_cell if text.startswith("#") else nbformat.v4.new_code_cell
        nb.cells.append(make(text, metadata={"tags": tags}))
    path = tmp_path / "fig98_test.ipynb"
    nbformat.write(nb, path)
    return path


PARAMETERS = 'results = None\noutput = None\ninputs = []\nmade_by = ""'


def test_a_failing_notebook_is_reported_and_kept(tmp_path, monkeypatch):
    path = notebook(tmp_path, ("# A figure", []), (PARAMETERS, ["parameters"]), ("1 / 0", []))
    monkeypatch.setattr(figures, "list_figures", lambda: {path.stem: read_figure(path)})
    (name, outcome, remark), = make_figures(results=tmp_path, output=tmp_path / "out")
    assert (name, outcome) == ("fig98_test", "failed") and "ZeroDivisionError" in remark
    assert (tmp_path / "out" / "fig98_test.failed.ipynb").exists()
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_notebook_without_parameters_is_refused(tmp_path):
    with pytest.raises(InputError, match="tag 'parameters', 0 have it"):
        read_figure(notebook(tmp_path, ("# A figure", []), (PARAMETERS, [])))


def test_an_unknown_parameter_is_refused(tmp_path):
    path = notebook(tmp_path, ("# A figure", []), ("inputs = []\nmade_by = ''", ["parameters"]))
    with pytest.raises(InputError, match="no parameter output, results"):
        figures._draw(read_figure(path), tmp_path, tmp_path)


def test_the_manifest_names_every_committed_file(root):
    folder = root / "paper_figures"
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {file for entry in manifest.values() for file in entry["files"]}
    assert listed == {p.name for p in folder.iterdir()} - {"manifest.json"}
    assert set(manifest) == set(list_figures())
