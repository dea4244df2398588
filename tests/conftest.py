"""What the tests share: the repository root, a small fitted model, the set's formulas, the command as a shell sees it.

And in which order they run, on how many processes (`pytest -n auto --dist loadscope`), and which belong to what was changed
(`pytest --quick`).
"""
import csv
import os
import time
from pathlib import Path

import pytest
import torch
from changed import ALWAYS, changed_files, selection

ROOT = Path(__file__).resolve().parent.parent
SECONDS = Path(__file__).with_name("seconds.csv")  # tests that take longer than one
QUICK_TEST, QUICK_RUN = 1.0, 90.0  # seconds that one test, and all of them together, may take with --quick
SLOW_FIXTURES = {"redrawn", "site", "benchmarks", "wheel"}  # their time falls to whichever test comes first

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


def pytest_addoption(parser):
    group = parser.getgroup("lgdcnn")
    group.addoption("--quick", action="store_true", help="only tests of what was changed since main, and none that takes long")
    group.addoption("--note-seconds", action="store_true", help=f"write what tests take to {SECONDS.name}, which orders them")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    "As many processes as cores, four at most: each takes a gigabyte."
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def known_seconds() -> dict[str, float]:  # of tests by their names
    with SECONDS.open(newline="") as f: return {row["test"]: float(row["seconds"]) for row in csv.DictReader(f)}


def group_of(nodeid: str) -> str:
    "Name what must run in one process: a file, whose tests share what was trained; a notebook, which shares nothing."
    path = nodeid.partition("::")[0]
    return nodeid if path.endswith("test_notebooks.py") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "Deal out groups, in the order in which they stand. (xdist's own marks for groups say nothing to pytest 9.2.)"
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid): return group_of(nodeid)
    return Groups(config, log)


def pytest_collection_modifyitems(config, items):
    if config.getoption("--quick"): keep_quick(config, items)
    seconds, total = known_seconds(), {}
    for item in items: total[g] = total.get(g := group_of(item.nodeid), 0) + seconds.get(item.nodeid, 0.1)
    place = {group: k for k, group in enumerate(total)}
    quick = config.getoption("--quick")  # where what comes late is skipped
    first = lambda item: not (quick and item.path.name in ALWAYS)
    items.sort(key=lambda item: (first(item), -total[g := group_of(item.nodeid)], place[g]))  # long ones begin early


def keep_quick(config, items):
    "Leave the tests that a change asks for, without those that are known to take long."
    seconds, wanted = known_seconds(), selection(changed_files(ROOT), ROOT)
    asked = [i for i in items if i.path.name in wanted or i.nodeid in wanted]
    is_slow = lambda i: i.get_closest_marker("slow") or SLOW_FIXTURES & set(i.fixturenames) or seconds.get(i.nodeid, 0) > QUICK_TEST
    kept = [i for i in asked if i.path.name in ALWAYS or not is_slow(i)]
    config.left_out = [i.nodeid for i in asked if i not in kept]
    config.hook.pytest_deselected(items=[i for i in items if i not in kept])
    items[:] = kept


def pytest_sessionstart(session): session.config.began = time.monotonic()


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"): session.config.workeroutput["left_out"] = getattr(session.config, "left_out", [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    "All processes of xdist leave out the same."
    node.config.left_out = getattr(node, "workeroutput", {}).get("left_out", [])


def pytest_runtest_setup(item):
    late = item.config.getoption("--quick") and time.monotonic() - item.config.began > QUICK_RUN
    if late and item.path.name not in ALWAYS:
        pytest.skip(f"--quick ends after {QUICK_RUN:.0f} s: make test runs all")


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--quick"):
        late = [r for r in terminalreporter.stats.get("skipped", ()) if "--quick ends" in str(r.longrepr)]
        left = getattr(config, "left_out", [])
        terminalreporter.write_line(f"quick: {len(left)} tests of what was changed take longer than a second and were left out, "
                                    f"{len(late)} came too late: make test runs all")
    if config.getoption("--note-seconds"): write_seconds(terminalreporter.stats)


def write_seconds(stats):
    "Note what each test took, what it was the first to need included."
    took = {}
    for report in (r for reports in stats.values() for r in reports if hasattr(r, "duration")):
        took[report.nodeid] = took.get(report.nodeid, 0) + report.duration
    with SECONDS.open("w", newline="") as f:
        lines = csv.writer(f, lineterminator="\n")
        lines.writerow(["test", "seconds"])
        lines.writerows([name, f"{s:.1f}"] for name, s in sorted(took.items()) if s > 1)


def made_once(request, folder: Path):
    "Fail where another process of this run makes what all tests of a file are to share, which takes a minute or more."
    if "PYTEST_XDIST_WORKER" not in os.environ: return
    try: (folder.parent / f"made-{request.fixturename}").touch(exist_ok=False)
    except FileExistsError: pytest.fail(f"{request.fixturename} is made twice: its tests run in several processes")


def run(*args) -> tuple[int, str, str]:  # exit code, standard output, standard error
    "Call `lgdcnn` as a shell would, without a process of its own."
    from click.testing import CliRunner

    from lgdcnn.cli import main
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.stdout, r.stderr


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def embedded():
    from lgdcnn import load_dataset
    return load_dataset("exp_formation_enthalpy")


@pytest.fixture(scope="session")
def small_config():
    from lgdcnn.config import MODELS
    return MODELS["l-g-dcnn"].replace(d_model=32, conv_width=32)


@pytest.fixture(scope="session")
def fitted(embedded, small_config):
    "A narrow L-G-DCNN, trained for two epochs: good enough for identities, not for accuracy."
    from lgdcnn import LGDCNNRegressor
    formulas, y = (a[:300] for a in embedded.part("train"))
    return LGDCNNRegressor(small_config, epochs=2, verbose=False).fit(formulas, y, validation=0.2)


@pytest.fixture(autouse=True)
def registries_stay_as_they_are():
    "Put networks and protocols back after a test, or a notebook, that made them small."
    from lgdcnn.config import MODELS, PROTOCOLS
    kept = dict(MODELS), dict(PROTOCOLS)
    yield
    for registry, before in zip((MODELS, PROTOCOLS), kept, strict=True):
        if registry != before:
            registry.clear()
            registry.update(before)
