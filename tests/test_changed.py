"`make quick` runs the tests of what was changed, `make test` deals them out, and the workflow calls what the Makefile has."
import csv
import re
import subprocess
import tomllib

import pytest
from changed import ALWAYS, changed_files, module_of, selection
from conftest import SECONDS, SLOW_FIXTURES, group_of, made_once, pytest_xdist_make_scheduler

NOTEBOOK = "tests/test_notebooks.py::test_notebook_runs[{}]"


@pytest.mark.parametrize("changed, asked", [
    ("nbs/09_cecv/02_legacy.ipynb", {NOTEBOOK.format("09_cecv/02_legacy.ipynb"), "test_cecv.py"}),
    ("lgdcnn/trust/conformal.py", {"test_uncertainty.py"}),  # imported as `from lgdcnn import CrossConformal`
    ("nbs/tutorials/silicon.ipynb", {NOTEBOOK.format("tutorials/silicon.ipynb")}),
    ("nbs/figures/fig01_parity.ipynb", {"test_figures.py"}), ("tests/training/test_losses.py", {"test_losses.py"}),
    ("docs/stage.py", {"test_docs.py"}), ("constraints.txt", {"test_dependencies.py"}), ("LICENSE", set()),
    ("nbs/gone.ipynb", set()), ("lgdcnn/gone.py", set())])
def test_a_change_asks_for_its_tests(changed, asked, root):
    always = selection([], root)
    assert always == {"test_project.py"} and selection([changed], root) >= asked | always
    assert bool(asked) == (selection([changed], root) > always)


def test_a_module_of_one_line_of_work_does_not_ask_for_all(root):
    all_files = {p.name for p in (root / "tests").rglob("test_*.py")}
    assert len(selection(["lgdcnn/training/speed.py"], root)) < len(all_files) / 4
    assert module_of(root / "nbs" / "01_ground/04_config.ipynb") == "config" and module_of(root / "nbs" / "index.ipynb") == ""


def test_what_was_changed_is_read_from_git(tmp_path):
    def git(*words): subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True, capture_output=True)
    def write(name, text=""): (tmp_path / name).write_text(text)
    git("init", "-b", "main")
    for name in ("one", "two"):
        write(name)
        git("add", "."), git("commit", "-m", name)
    assert changed_files(tmp_path) == ["two"], "nothing is under way: the last commit"
    write("one", "1"), write("new ä")
    assert changed_files(tmp_path) == ["one", "new ä"]
    git("switch", "-c", "branch"), git("add", "."), git("commit", "-m", "three")
    write("two", "2")
    assert changed_files(tmp_path) == ["new ä", "one", "two"], "everything since main"


def test_the_longest_come_first_and_files_stay_together(request):
    items = [i for i in request.session.items if i.path.name not in ALWAYS]  # with --quick, these come before all
    seconds = {row["test"]: float(row["seconds"]) for row in csv.DictReader(SECONDS.open())}
    groups = [g for k, item in enumerate(items) if (g := group_of(item.nodeid)) != (group_of(items[k - 1].nodeid) if k else None)]
    assert len(groups) == len(set(groups)), "what shares a fixture is run in one go"
    total = {g: 0.0 for g in groups}
    for item in items: total[group_of(item.nodeid)] += seconds.get(item.nodeid, 0.1)
    assert list(total.values()) == sorted(total.values(), reverse=True)


def test_what_a_file_shares_is_made_in_one_process(request, tmp_path, monkeypatch):
    "A second process that would make it again fails; the scheduler never lets it come to that."
    scheduler = pytest.importorskip("xdist.scheduler").LoadScopeScheduling
    made = pytest_xdist_make_scheduler(type("C", (), {"getvalue": lambda *a: ["popen"], "option": None})(), None)
    assert isinstance(made, scheduler)
    a, b, c = map(made._split_scope, ("tests/test_docs.py::test_one", "tests/test_docs.py::test_two[1.5]", NOTEBOOK.format("01/02.ipynb")))
    assert a == b != c == NOTEBOOK.format("01/02.ipynb")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    fixture = type("R", (), {"fixturename": "site"})
    made_once(fixture, tmp_path / "popen-gw0")
    with pytest.raises(pytest.fail.Exception, match="site is made twice"): made_once(fixture, tmp_path / "popen-gw1")


def test_the_seconds_are_of_tests_that_exist(root):
    for row in csv.DictReader(SECONDS.open()):
        path, _, name = row["test"].partition("::")
        assert f"def {name.partition('[')[0]}(" in (root / path).read_text(), f"{row['test']} is gone: pytest --note-seconds"


def test_the_workflow_calls_the_makefile_on_the_pythons_that_are_promised(root):
    text, makefile = (root / ".github" / "workflows" / "ci.yml").read_text(), (root / "Makefile").read_text()
    targets = re.findall(r"run: make (\S+)", text)
    assert targets == ["install", "test", "docs"] and all(re.search(rf"(?m)^{t}:", makefile) for t in targets)
    pythons = re.search(r"python: \[(.*)\]", text)[1].replace('"', "").split(", ")
    lowest = tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert pythons == [lowest, "3.12", "3.13"]
    assert not re.search(r"https?://|index-url|--index", text)


def test_fixtures_that_take_long_are_those_of_the_tests(root):
    text = "".join(p.read_text() for p in (root / "tests").rglob("test_*.py"))
    assert [name for name in SLOW_FIXTURES if not re.search(rf"@pytest.fixture.*\ndef {name}\(", text)] == []
