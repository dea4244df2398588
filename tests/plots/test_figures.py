"Figures are drawn from results alone, the same every time, and the manifest knows when they are not."
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import made_once
from drawing import Drawing

from lgdcnn import InputError
from lgdcnn.cli import figures as cli_figures
from lgdcnn.cli import main
from lgdcnn.places import package_folder
from lgdcnn.plots import figures, manifest
from lgdcnn.plots.figures import figure_state, is_current, list_figures, make_figures, read_figure


@pytest.fixture
def drawn(root, tmp_path):
    "The committed results and figures, in a folder that may be spoilt."
    for name in ("results", "paper_figures"): shutil.copytree(root / name, tmp_path / name)
    return tmp_path / "results", tmp_path / "paper_figures"


def test_committed_figures_are_up_to_date(root):
    stale = [f.name for f in list_figures().values() if not is_current(f, root / "results", root / "paper_figures")]
    assert not stale, f"{stale}: make figures"


@pytest.fixture(scope="module")
def redrawn(request, root, tmp_path_factory):
    "All figures drawn anew, each in a process of its own, and what was said of each."
    made_once(request, tmp_path_factory.getbasetemp())
    output = tmp_path_factory.mktemp("figures")
    with Drawing() as drawing, pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_run", drawing)
        outcomes = {name: (outcome, remark) for name, outcome, remark in
                    make_figures(results=root / "results", output=output, jobs=1)}
    return output, outcomes


@pytest.mark.parametrize("name", list_figures())
def test_redrawing_gives_the_same_numbers(name, root, redrawn):
    output, outcomes = redrawn
    assert outcomes[name][0] == "drawn", outcomes[name]
    assert {p.suffix for p in output.glob(f"{name}.*")} == {".csv", ".pdf", ".png"}
    assert (output / f"{name}.csv").read_bytes() == (root / "paper_figures" / f"{name}.csv").read_bytes()
    entries = [json.loads((f / "manifest.json").read_text())[name] for f in (output, root / "paper_figures")]
    assert entries[0]["says"] == entries[1]["says"] != []


@pytest.mark.parametrize("backend, names", [
    ("Agg", ["fig04_cecv_order"]),
    ("module://matplotlib_inline.backend_inline", ["fig01_parity", "fig13_cecv_elements"])])  # a fixed aspect, and a colour bar
def test_drawing_again_by_papermill_in_any_shell_gives_the_same_bytes(backend, names, root, redrawn, tmp_path, monkeypatch):
    output, _ = redrawn
    monkeypatch.setenv("MPLBACKEND", backend)
    assert [o for _, o, _ in make_figures(names, root / "results", tmp_path, jobs=2)] == ["drawn"] * len(names)
    again = {p.name: p.read_bytes() for p in tmp_path.glob("fig*")}
    assert len(again) == 3 * len(names) and [n for n in again if again[n] != (output / n).read_bytes()] == []


def test_a_picture_stays_while_numbers_and_code_stay(tmp_path, monkeypatch):
    "Another machine moves a last bit: that is no change. A number, a line said or a shape is one."
    figure = read_figure(notebook(tmp_path, ("# A figure", []), (PARAMETERS.replace("[]", '["in"]'), ["parameters"])))
    results, output = tmp_path / "results", tmp_path / "out"
    output.mkdir(), (results / "in").mkdir(parents=True)
    drawn = {"shade": 0.5, "csv": "a\n1\n", "says": "the claim holds"}

    def run(figure, results, output):
        from matplotlib.image import imsave
        imsave(output / f"{figure.name}.png", np.full((9, 9), drawn["shade"]), cmap="gray", vmin=0, vmax=1)
        (output / f"{figure.name}.csv").write_text(drawn["csv"])
        return None, [drawn["says"]]

    def kept(**change):
        drawn.update(change)
        old = (output / f"{figure.name}.png").read_bytes()
        assert figures._draw(figure, results, output)[0] == "drawn"
        assert is_current(figure, results, output)
        return (output / f"{figure.name}.png").read_bytes() == old
    monkeypatch.setattr(figures, "_run", run)
    (results / "in" / "a.csv").write_text("1")
    figures._draw(figure, results, output)
    assert kept(shade=0.504), "a last bit"
    assert kept(shade=0.6), "a font library: nothing that the picture is made from has changed"
    (results / "in" / "a.csv").write_text("2")
    assert kept(shade=0.504), "other results, the same numbers, the same picture"
    (results / "in" / "a.csv").write_text("3")
    assert not kept(shade=0.9), "other results, and something looks different"
    assert not kept(shade=0.5, csv="a\n2\n") and not kept(shade=0.9, says="the claim does not hold")
    for module in (figures, manifest): monkeypatch.setattr(module, "versions", lambda: {"matplotlib": "99"})
    assert not kept(shade=0.5), "other drawing packages"


def test_no_title_claims_what_its_figure_denies(root):
    manifest = json.loads((root / "paper_figures" / "manifest.json").read_text())
    unsure = ("does not hold", "cannot be said", "undecided")
    topics = ("fig02", "fig04", "fig06", "fig10")  # their titles name what is looked at and state nothing
    wrong = [n for n, e in manifest.items() if any(u in line for line in e["says"] for u in unsure)
             and "?" not in e["title"] and not n.startswith(topics)]
    assert not wrong, f"{wrong}: a title that is a statement, and a verdict that is none"


@pytest.mark.parametrize("name", list_figures())
def test_no_text_in_a_figure_covers_another_or_the_data(name, redrawn):
    assert Drawing.faults[name] == []


def test_the_verdict_stands_before_the_picture_is_drawn(root):
    "Title, claim and the picture as last drawn; then what is loaded; then whether the claim holds; then all the rest."
    for name, figure in list_figures().items():
        cells = manifest.notebook_cells(figure.path)
        kinds, sources = [c["cell_type"] for c in cells], ["".join(c["source"]) for c in cells]
        verdict = [k for k, s in enumerate(sources) if kinds[k] == "code" and "print(" in s]
        assert len(verdict) == 1 and "Does it hold?" in sources[verdict[0] - 1], name
        assert verdict[0] < next(k for k, s in enumerate(sources) if "set_style()" in s), name
        assert f"](../../paper_figures/{name}.png)" in sources[0], name


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
    copy = shutil.copytree(package_folder(), tmp_path / "package")
    monkeypatch.setattr(manifest, "package_folder", lambda: copy)
    manifest.enter(parity, *drawn, [])
    assert is_current(parity, *drawn)
    (copy / "config.py").write_text((copy / "config.py").read_text().replace("# %%", "# %% elsewhere"))
    assert is_current(parity, *drawn), "the names of cells are no code"
    (copy / "config.py").write_text((copy / "config.py").read_text().replace("# AUTOGENERATED! DO NOT EDIT! File to edit: ", "# AUTOGENERATED! DO NOT EDIT! File to edit: elsewhere/"))
    assert is_current(parity, *drawn), "nor is the name of the notebook"
    (copy / "config.py").write_text((copy / "config.py").read_text() + "x = 1\n")  # imported by plots
    assert figure_state(parity, *drawn) == ("to draw", "changed: package")


def test_a_changed_module_in_a_folder_of_the_package_is_noticed(tmp_path, monkeypatch):
    "Modules in folders, reached by every way of importing them: each counts, with those that it imports in turn, and no other."
    package, results, output = (tmp_path / name for name in ("package", "results", "out"))
    for name, text in {"__init__.py": "", "places.py": "", "data/__init__.py": "", "data/splits.py": "from ..places import x\n", "data/numbers.csv": "1\n",
                       "plots/style.py": "from ..data.splits import (\n    kfold,\n    folds as f)\n", "plots/deep/lines.py": "from ...data import splits\nfrom .. import style\n",
                       "cecv/__init__.py": "from .order import first\n", "cecv/order.py": "'uses numbers'\n", "other/alone.py": ""}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(manifest, "package_folder", lambda: package)
    output.mkdir()

    def used(code): return {p.relative_to(package).as_posix() for p in manifest.used_files(code)}
    splits, order = {"places.py", "data/__init__.py", "data/splits.py"}, {"cecv/__init__.py", "cecv/order.py", "data/numbers.csv"}
    assert used("from lgdcnn.data.splits import kfold") == used("import lgdcnn.data.splits") == used("from lgdcnn.data import splits") == splits
    assert used("from lgdcnn.plots.deep.lines import a") == splits | {"plots/style.py", "plots/deep/lines.py"}
    assert used("from lgdcnn import cecv") == used("from lgdcnn.cecv.order import first") == order
    (tmp_path / "nested").mkdir()
    path = notebook(tmp_path / "nested", ("# A figure", []), (PARAMETERS, ["parameters"]), ("from lgdcnn.plots import style", []), name="fig97")
    figure = manifest.list_figures(tmp_path)["fig97"]
    assert figure.path == path, "a notebook in a folder is one of the figures"
    manifest.enter(figure, results, output, [])
    assert is_current(figure, results, output)
    (package / "other" / "alone.py").write_text("x = 1\n")
    assert is_current(figure, results, output), "nothing of it is used"
    for name in ("data/splits.py", "places.py", "data/__init__.py", "plots/style.py"):
        manifest.enter(figure, results, output, [])
        (package / name).write_text((package / name).read_text() + "x = 1\n")
        assert figure_state(figure, results, output) == ("to draw", "changed: package"), name


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
    for module in (figures, manifest): monkeypatch.setattr(module, "drawn_files", lambda figure, output: {figure.name: "drawn"})  # these draw nothing
    run = make_figures(results=tmp_path, output=tmp_path / "out", jobs=1)
    assert next(run)[:2] == ("fig90", "drawn")
    run.close()  # as an interrupt would
    again = {name: outcome for name, outcome, _ in make_figures(results=tmp_path, output=tmp_path / "out", jobs=1)}
    assert again["fig90"] == "up to date" and again["fig92"] == "drawn"


# --- when something is broken, shared, killed or full

@pytest.mark.parametrize("text", ["", "{<<<<<<< HEAD", "[1, 2]", "[" * 100_000, '{"fig99_good": 3}', '{"fig99_good": {"from": {}, "files": {}}}'])
def test_a_damaged_manifest_is_set_aside_and_rebuilt(tmp_path, monkeypatch, text):
    good = notebook(tmp_path, ("# A figure", []), (PARAMETERS, ["parameters"]), name="fig99_good")
    monkeypatch.setattr(figures, "list_figures", lambda: {"fig99_good": read_figure(good)})
    monkeypatch.setattr(figures, "_papermill", lambda notebook, copy, parameters: shutil.copy(notebook, copy) and None)
    output = tmp_path / "out"
    output.mkdir()
    (output / "manifest.json").write_text(text)
    listed = CliRunner().invoke(cli_figures.figures, ["--list", "--results", str(tmp_path), "--output", str(output)])
    assert listed.exit_code == 0 and "to draw" in listed.stdout
    entry_only = text.startswith('{"')
    assert ("is damaged" in listed.stderr) != entry_only
    if entry_only: list(make_figures(results=tmp_path, output=output))
    else:
        with pytest.warns(UserWarning, match="is now manifest.damaged.json, and what it listed is drawn anew") as notes:
            list(make_figures(results=tmp_path, output=output))
        assert len(notes) == 1 and (output / "manifest.damaged.json").read_text() == text
    assert list(json.loads((output / "manifest.json").read_text())) == ["fig99_good"]


ENTER = """
import sys
from pathlib import Path
from lgdcnn.plots import manifest
from lgdcnn.plots.manifest import FigureNotebook
sources = {"notebook": "", "package": "", "settings": "", "inputs": {}}
manifest.fingerprint, manifest.drawn_files = lambda *_: sources, lambda *_: {}
print("ready", flush=True); sys.stdin.readline()
for k in range(25):
    manifest.enter(FigureNotebook(Path(f"fig{sys.argv[1]}{k:02d}.ipynb"), "t", {}), Path(), Path(sys.argv[2]), [])
"""


def test_processes_that_share_a_folder_lose_no_entry(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", ENTER, name, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
               for name in ("a", "b")]
    for w in writers: assert w.stdout.readline() == "ready\n"
    for w in writers: w.communicate("go\n", timeout=60)
    assert len(json.loads((tmp_path / "manifest.json").read_text())) == 50
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"], "the lock leaves nothing behind"


DRAW = """
import sys
from pathlib import Path
from lgdcnn.plots import figures
figures.list_figures = lambda: {"fig97": figures.read_figure(Path(sys.argv[1]) / "fig97.ipynb")}
list(figures.make_figures(results=sys.argv[1], output=sys.argv[1] + "/out", jobs=1))
"""


def alive(pid):
    try: return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError: return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_after_kill_9_nothing_goes_on_drawing(tmp_path):
    code = f"import os, time\nopen({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{os.getppid()}}\\n')\ntime.sleep(300)"
    notebook(tmp_path, ("# A figure", []), (PARAMETERS, ["parameters"]), (code, []), name="fig97")
    drawing = subprocess.Popen([sys.executable, "-c", DRAW, str(tmp_path)])
    try: wait_for(lambda: (tmp_path / "pids").is_file() and (tmp_path / "pids").read_text().endswith("\n"), 300)
    finally: drawing.kill()
    pids = [int(p) for p in (tmp_path / "pids").read_text().split()]  # kernel, papermill
    drawing.wait()
    wait_for(lambda: not any(map(alive, pids)), 60)


def wait_for(happened, seconds):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_code_2(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for output, words in ((tmp_path / "file", "cannot be made (File exists)"), (tmp_path / "file" / "below", "cannot be made (Not a directory)")):
        run = CliRunner().invoke(main, ["figures", "fig01_parity", "--force", "--results", str(root / "results"), "--output", str(output)])
        assert run.exit_code == 2 and words in run.stderr and "choose another with --output" in run.stderr
        assert len(run.stderr.splitlines()) == 1 and run.stdout == ""
    access = figures.os.access
    monkeypatch.setattr(figures.os, "access", lambda path, mode: mode != os.W_OK | os.X_OK and access(path, mode))
    run = CliRunner().invoke(main, ["figures", "fig01_parity", "--force", "--results", str(root / "results"), "--output", str(tmp_path)])
    assert run.exit_code == 2 and "cannot be written to" in run.stderr and len(run.stderr.splitlines()) == 1


def test_a_full_disk_fails_a_figure_and_not_the_next(tmp_path, monkeypatch):
    for k in range(2): notebook(tmp_path, ("# A figure", []), (PARAMETERS, ["parameters"]), name=f"fig9{k}")
    monkeypatch.setattr(figures, "list_figures", lambda: {p.stem: read_figure(p) for p in sorted(tmp_path.glob("*.ipynb"))})
    monkeypatch.setattr(figures, "_papermill", lambda notebook, copy, parameters: shutil.copy(notebook, copy) and None)
    write, full = manifest.write_atomic, iter([True])
    def once_full(path, content):
        if next(full, False): raise OSError(28, "No space left on device", str(path))
        return write(path, content)
    monkeypatch.setattr(manifest, "write_atomic", once_full)  # the first figure cannot be entered
    outcomes = {name: (outcome, remark) for name, outcome, remark in make_figures(results=tmp_path, output=tmp_path / "out", jobs=1)}
    assert sorted(o for o, _ in outcomes.values()) == ["drawn", "failed"]
    assert "No space left on device: " in outcomes["fig90"][1]
