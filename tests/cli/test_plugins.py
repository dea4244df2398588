"Networks of one's own, from the file on the tutorial's page: a row, a kept network, a curve; and what is said when something is missing."
import json

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from lgdcnn.benchmark.plan import make_plan
from lgdcnn.benchmark.results import Cell
from lgdcnn.benchmark.store import ResultStore
from lgdcnn.cli import main
from lgdcnn.config import PROTOCOLS
from lgdcnn.networks import plugins
from lgdcnn.networks.models import STAGES


def run(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.stdout, r.stderr


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    "Forget after a test what it loaded."
    before = dict(STAGES)
    monkeypatch.setattr(plugins, "_LOADED", {})
    yield
    STAGES.clear()
    STAGES.update(before)


@pytest.fixture
def company(root, tmp_path):
    "The file that the tutorial writes."
    cells = json.loads((root / "nbs/tutorials/plugin.ipynb").read_text(encoding="utf-8"))["cells"]
    [text] = [s for c in cells if (s := "".join(c["source"])).startswith("%%writefile company.py\n")]
    (tmp_path / "company.py").write_text(text.partition("\n")[2])
    return tmp_path / "company.py"


def test_one_file_two_commands(company, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "brief", PROTOCOLS["brief"].replace(epochs=1))
    data = ["--dataset", "exp_formation_enthalpy", "--results", tmp_path / "mine"]
    code, _, err = run("benchmark", "run", "--load", company, "--model", "company", "--protocol", "brief", "--keep-models", *data)
    store, cell = ResultStore(tmp_path / "mine"), Cell("exp_formation_enthalpy", 0, "company", "brief", 0)
    assert code == 0 and "company.brief" in err and store.network_path(cell).is_file()
    assert (tmp_path / "mine/networks/.gitignore").read_text() == "*\n"
    _, out, _ = run("benchmark", "table", *data)
    assert "company" in out and f"{store.read(cell).test['mae']:.4f}"[:5] in out
    ask = ["cecv", store.network_path(cell), "--data", "exp_formation_enthalpy", "--element", "O", "--sizes", "3"]
    code, out, err = run(*ask, "--plot", tmp_path / "curve.svg")
    assert code == 0 and out.split()[-10] == "output" and "clusters per compound" in (tmp_path / "curve.svg").read_text()
    own = store.read(cell).source
    company.write_text(company.read_text() + "# another thought\n")
    assert plugins.source_with("0123456789", None) == "0123456789" != own != plugins.source_with("0123456789", plugins.MODELS["company"])
    del STAGES["company"]  # as in a new shell
    code, _, err = run(*ask)
    assert code == 2 and "unknown stage 'company': load the module that defines it" in err and "known are attention" in err


@pytest.mark.parametrize("text, said", [
    ("from lgdcnn.config import MODELS\nMODELS['lstm'] = MODELS['gru']", "replaces the network 'lstm': give yours a name of its own"),
    ("from lgdcnn.config import MODELS\ndel MODELS['lstm']", "replaces the network 'lstm'"),
    ("import torch\n\nraise RuntimeError('no')", "my.py cannot be loaded (line 3): RuntimeError: no"),
    ("def", "my.py cannot be loaded (line 1): SyntaxError"),
    (None, "my.py to load")])
def test_a_file_that_cannot_be_loaded_is_one_line(tmp_path, text, said):
    if text: (tmp_path / "my.py").write_text(text)
    before = dict(plugins.MODELS)
    code, out, err = run("train", "exp_formation_enthalpy", "--load", tmp_path / "my.py", "--out", tmp_path / "m")
    assert (code, out, len(err.splitlines())) == (2, "", 1) and said in err and plugins.MODELS == before


def test_workers_load_it_too(company, tmp_path, monkeypatch):
    from lgdcnn.benchmark import supervisor, worker
    tasks = []
    monkeypatch.setattr(supervisor.Supervisor, "run", lambda self: tasks.append(self.task) or supervisor.Report())
    code, *_ = run("benchmark", "run", "--load", company, "--model", "company", "--dataset", "exp_formation_enthalpy",
                   "--results", tmp_path, "--workers", 1, "--device", "cpu", "--keep-models")
    assert code == 0 and tasks[0]["load"] == [str(company)] and tasks[0]["networks"]
    del STAGES["company"], plugins.MODELS["company"]
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(worker, "fill", lambda *given, **more: worker.Outcome(stopped=str(more["networks"])))
    worker._work(tasks[0] | {"plan": [], "end": 0}, set())
    assert "company" in STAGES


def test_the_package_s_name_is_the_main_network(fitted):
    from lgdcnn import LGDCNNRegressor
    assert LGDCNNRegressor("lgdcnn")._configs()[0].name == "l-g-dcnn"
    assert make_plan(["mp_e_hull"], ["lgdcnn"]) == make_plan(["mp_e_hull"], ["l-g-dcnn"])


def test_verdicts_are_about_the_sets_that_are_asked_for(root):
    stored = ["benchmark", "table", "--results", root / "results/benchmark", "--format", "csv", "--dataset"]
    code, out, err = run(*stored, "matbench_steels")
    assert code == 0 and {line.split(",")[0] for line in out.splitlines()[1:]} == {"matbench_steels"}
    verdicts = [line for line in err.splitlines() if " filled" in line]
    assert verdicts[0].startswith("l-g-dcnn, 1 of 1 set filled") and not any("28" in v for v in verdicts)
    assert " filled" not in run(*stored, "matbench_glass")[2], "a verdict on numbers where only classes are asked for"
    one = [v for v in run(*stored, "mp_bulk_modulus", "--model", "lstm")[2].splitlines() if " filled" in v]
    assert len(one) == 1 and one[0].startswith("lstm, ")


@pytest.mark.parametrize("line, offered", [
    ("train exp_f", {"exp_formation_enthalpy"}), ("train x.csv --architecture l-g-dcnn-t", {"l-g-dcnn-tuned"}),
    ("train x.csv --architecture fu", {"fused"}), ("train x.csv --protocol pa", {"paper"}),
    ("cecv m.lgdcnn --data matbench_s", {"matbench_steels"}), ("benchmark run --model crab", {"crabnet-style"}),
    ("benchmark status --dataset mp_e", {"mp_e_hull", "mp_eps_inf"}), ("benchmark predictions matbench_gl", {"matbench_glass"})])
def test_the_tab_key_knows_names(line, offered):
    *words, last = line.split()
    found = {i.value for i in ShellComplete(main, {}, "lgdcnn", "_LGDCNN_COMPLETE").get_completions(words, last) if i.type == "plain"}
    from lgdcnn.data.registry import cards
    assert found == (offered if "mp_e_hull" not in offered else {n for n in cards() if n.startswith("mp_e")})
