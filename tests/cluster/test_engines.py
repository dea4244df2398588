"Tasks go out and come back, whoever dies: processes, a Dask cluster on this machine, submitit's local jobs; what is wrong is one line."
import importlib.util
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from small_tasks import deadly, slowly, wrong

from lgdcnn.cluster import engines
from lgdcnn.cluster.engines import by_dask, by_slurm, dask_client, side_by_side, slurm_executor
from lgdcnn.config import InputError
from lgdcnn.screening.aims import read_aim
from lgdcnn.screening.groups import element_list
from lgdcnn.screening.models import Named
from lgdcnn.screening.parts import ScreenQuestion
from lgdcnn.screening.report import short_list
from lgdcnn.screening.run import screen
from lgdcnn.screening.template import Template

has = lambda name: importlib.util.find_spec(name) is not None
needs_dask = pytest.mark.skipif(not has("distributed"), reason="pip install lgdcnn[cluster]")
needs_submitit = pytest.mark.skipif(not has("submitit"), reason="pip install lgdcnn[cluster]")


@pytest.fixture(scope="module", autouse=True)
def seen_by_workers():
    "Let processes elsewhere find the functions of this file."
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        yield


# processes

def test_a_process_that_dies_is_replaced_and_nothing_is_lost_or_given_twice(tmp_path):
    done = list(side_by_side(deadly, ((str(tmp_path), k) for k in range(12)), 2))
    assert sorted(k for (_, k), _ in done) == list(range(12)) and all(a == -k for (_, k), a in done)
    begun = {int(p.name): len(p.read_text()) for p in tmp_path.iterdir()}
    assert begun[5] == 2 and max(begun.values()) == 2, "a task was begun more often than a death explains"


def test_tasks_are_asked_for_as_they_are_needed_and_errors_come_through():
    asked = []
    tasks = (asked.append(k) or k for k in range(1000))
    answers = side_by_side(abs, tasks, 1)
    for _ in range(3): next(answers)
    assert len(asked) <= 6
    answers.close()
    with pytest.raises(InputError, match="7 cannot be done"): list(side_by_side(wrong, [7], 1))


# Dask

@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as c: yield c



def worker_pids(address):
    client = dask_client(address)
    try: return list(client.run(os.getpid).values())
    finally: client.close()


@pytest.mark.slow
@needs_dask
def test_two_dask_workers_one_killed_in_the_middle_screen_as_one_process(cluster, tmp_path):
    "The same parts, byte for byte, and the same top 100."
    pattern = Template.of("A1-xA'xTiO3", {s: element_list("alkaline,La,Ce,Y") for s in ("A", "A'")}, "0:0.5:0.125")
    question = ScreenQuestion(pattern, (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),), (Named("gap", "band_gap_mp", "bf16"),), 0.6, rows=10)
    killed = []
    class Cruel:
        def __init__(self, stage): self.seen, self.stage = 0, stage
        def __enter__(self): return self.tell
        def __exit__(self, *rest): pass
        def tell(self, done):
            self.seen += 1
            if self.stage == 1 and self.seen == 4:
                killed.append(worker_pids(cluster.scheduler_address)[0])
                os.kill(killed[0], signal.SIGKILL)
    ways = {"one": screen(question, tmp_path / "one"),
            "dask": screen(question, tmp_path / "dask", partial(by_dask, address=cluster.scheduler_address), progress=Cruel)}
    bytes_of = lambda name: {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).glob("pass-*/*")}
    tops = [short_list(question, tmp_path / name, outcome, 100) for name, outcome in ways.items()]
    assert len(killed) == 1 and ways["one"].n_parts[0] >= 30 and len(tops[0]) == 100
    assert bytes_of("one") == bytes_of("dask") and tops[0].equals(tops[1]) and ways["one"].counts == ways["dask"].counts


@needs_dask
def test_what_is_wrong_with_a_cluster_is_one_line(cluster, tmp_path, monkeypatch):
    address = cluster.scheduler_address
    assert sorted(by_dask(abs, [-1, -2], address)) == [(-2, 2), (-1, 1)]
    with pytest.raises(InputError, match="3 cannot be done"): list(by_dask(wrong, [3], address))
    with pytest.raises(InputError, match="no scheduler answers at 'tcp://127.0.0.1:9'.*dask scheduler"): dask_client("tcp://127.0.0.1:9", 1)
    with pytest.raises(InputError, match="no scheduler answers at 'nonsense://x'"): dask_client("nonsense://x", 1)
    monkeypatch.setattr("lgdcnn.benchmark.provenance.code_version", lambda: {"source": "another"})  # of whoever asks; the workers have their own
    with pytest.raises(InputError, match="runs other code of lgdcnn.*another here.*install the same version"): list(by_dask(abs, [-1], address))


@needs_dask
def test_a_cluster_without_workers_and_one_that_goes_away():
    from distributed import LocalCluster
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None, silence_logs=50) as empty:
        with pytest.raises(InputError, match="has no workers: start some"): dask_client(empty.scheduler_address, 0.3)
        empty.scale(1)
        answers = by_dask(slowly, range(1000), empty.scheduler_address, 20)
        next(answers)
        empty.close()
        with pytest.raises(InputError, match="has gone: what is finished is kept"): list(answers)


# Slurm, by submitit's local jobs

@needs_submitit
def test_a_job_that_dies_is_sent_again(tmp_path):
    (tmp_path / "t").mkdir()
    done = list(by_slurm(deadly, [(str(tmp_path / "t"), k) for k in (4, 5)], slurm_executor(tmp_path / "logs"), 3, 0.05))
    assert sorted((k, a) for (_, k), a in done) == [(4, -4), (5, -5)]
    assert {p.name: len(p.read_text()) for p in (tmp_path / "t").iterdir()} == {"4": 1, "5": 2}


@needs_submitit
def test_work_that_fails_and_jobs_that_die_always_are_one_line(tmp_path, monkeypatch):
    executor = slurm_executor(tmp_path)
    with pytest.raises(InputError, match="job .* failed: .*9 cannot be done") as e: list(by_slurm(wrong, [9], executor, 1, 0.05))
    assert "\n" not in str(e.value)
    monkeypatch.setattr(engines, "AGAIN", 0)
    with pytest.raises(InputError, match="killed 1 times"): list(by_slurm(os._exit, [1], executor, 1, 0.05))


# nothing installed

@pytest.mark.parametrize("module, call, said", [("distributed", lambda p: dask_client("tcp://127.0.0.1:9"), "--scheduler needs Dask"),
                                                ("submitit", slurm_executor, "--executor slurm needs submitit")])
def test_what_is_not_installed_is_named_with_its_extra(module, call, said, tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == module]: monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"{said}.*pip install lgdcnn.cluster"): call(tmp_path)
