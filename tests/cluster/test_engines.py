"Tasks go out and come back, whoever dies: processes, submitit's local jobs; a cluster that goes away is one line."
import importlib.util
import io
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_tasks import deadly, poisoned, slowly, unreadable, wrong

from lgdcnn.cluster import engines, slurm
from lgdcnn.cluster.engines import by_dask, dask_client, side_by_side
from lgdcnn.cluster.slurm import by_slurm, slurm_executor
from lgdcnn.config import InputError

has = lambda name: importlib.util.find_spec(name) is not None
needs_dask = pytest.mark.skipif(not has("distributed"), reason="pip install lgdcnn[cluster]")
pytestmark = pytest.mark.filterwarnings("ignore:there is no Slurm here")
needs_submitit = pytest.mark.skipif(not has("submitit"), reason="pip install lgdcnn[cluster]")


@pytest.fixture(scope="module", autouse=True)
def seen_by_workers():
    "Let processes elsewhere find the functions of this file; submitit waits but a moment for the file of a job that died."
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        if has("submitit"): m.setattr("submitit.core.core.Job._results_timeout_s", 0.1)
        yield


# processes

def test_a_process_that_dies_is_replaced_and_nothing_is_lost_or_given_twice(tmp_path):
    done = list(side_by_side(deadly, ((str(tmp_path), k) for k in range(12)), 2))
    assert sorted(k for (_, k), _ in done) == list(range(12)) and all(a == -k for (_, k), a in done)
    begun = {int(p.name): len(p.read_text()) for p in tmp_path.iterdir()}
    assert begun == dict.fromkeys(range(12), 1) | {5: 2}, "only the task of the process that died is begun again"


@pytest.mark.parametrize("workers", [1, 3])
def test_a_task_that_kills_its_processes_costs_three_and_the_others_none(workers, tmp_path):
    tasks = [(str(tmp_path), k) for k in range(40)]
    done = dict(side_by_side(poisoned, iter(tasks), workers, lambda task, why: why))
    assert done.pop(tasks[5]).startswith("a task killed 3 processes that took it") and done == {t: -t[1] for t in tasks if t[1] != 5}
    assert {int(p.name): len(p.read_text()) for p in tmp_path.iterdir()} == dict.fromkeys(range(40), 1) | {5: 3}
    with pytest.raises(InputError, match="killed 3 processes.*what is finished is kept: run the same again"):
        list(side_by_side(poisoned, [(str(tmp_path), 5)], workers))


def test_tasks_are_asked_for_as_they_are_needed_and_errors_come_through():
    asked = []
    tasks = (asked.append(k) or k for k in range(1000))
    answers = side_by_side(abs, tasks, 1)
    for _ in range(3): next(answers)
    assert len(asked) <= 6
    answers.close()
    with pytest.raises(InputError, match="7 cannot be done"): list(side_by_side(wrong, [7], 1))


def test_an_error_that_cannot_be_read_here_is_named():
    with pytest.raises(InputError, match=r"killed 3 processes that took it \(TypeError: .*missing 1 required .* 'b'\); what"):
        list(side_by_side(unreadable, [1, 2, 3], 2))


class Answer:
    def __init__(self, k): self.k = k
    def result(self): return -self.k


def test_workers_that_come_later_are_given_work():
    rooms, underway = iter([2, 2, 6, 6, 6, 6, 6, 6]), []
    def first_done(running):
        underway.append(len(running))
        return [next(iter(running))]
    answers = engines._bounded(Answer, iter(range(7)), lambda: next(rooms), {}, first_done)
    assert sorted(answers) == [(k, -k) for k in range(7)]
    assert underway == [2, 2, 5, 4, 3, 2, 1]


# Dask

@needs_dask
def test_a_cluster_without_workers_and_one_that_goes_away():
    from distributed import LocalCluster
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None, silence_logs=50) as empty:
        with pytest.raises(InputError, match="has no workers: start some"): dask_client(empty.scheduler_address, 0.3)
        empty.scale(1)
        answers = by_dask(slowly, range(1000), empty.scheduler_address, 20)
        next(answers)
        empty.close()
        (heard := logging.StreamHandler(io.StringIO())).setLevel(logging.ERROR)
        logging.getLogger("distributed").addHandler(heard)
        with pytest.raises(InputError, match="has gone: what is finished is kept"), engines._silent():
            logging.getLogger("distributed").critical("a trace")
            list(answers)
        logging.getLogger("distributed").removeHandler(heard)
    assert heard.stream.getvalue() == "" and heard.level == logging.ERROR


@needs_dask
@pytest.mark.parametrize("error, kind, said", [
    (RuntimeError("Error during deserialization of the task graph. This frequently\noccurs if"), InputError, "scheduler at tcp://x:1 has not what is installed here"),
    (ModuleNotFoundError("No module named 'smact'", name="smact"), InputError, "a worker of tcp://x:1 lacks the package smact"),
    (RuntimeError("of the work"), RuntimeError, "of the work")])
def test_a_cluster_without_our_packages_is_one_line(error, kind, said):
    with pytest.raises(kind, match=said) as e, engines._plainly("tcp://x:1"): raise error
    assert "\n" not in str(e.value)


@needs_dask
def test_what_a_task_costs_does_not_grow_with_the_workers(monkeypatch):
    "Of a thousand workers: ends are told one by one, and who works there is asked for now and then, not at each task."
    asked, most = [], []
    client = SimpleNamespace(loop=None, cancel=lambda futures: None, close=lambda: None, submit=lambda work, task, pure: Answer(task),
                             nthreads=lambda: asked.append(1) or dict.fromkeys(range(1000), 1))
    class Ends:
        def __init__(self, loop): self.underway = []
        def add(self, future): self.underway.append(future)
        def next_batch(self):
            most.append(len(self.underway))
            return [self.underway.pop(0)]
    monkeypatch.setattr(engines, "dask_client", lambda *rest: client)
    monkeypatch.setattr("distributed.as_completed", Ends)
    assert sorted(by_dask(abs, range(4000), "tcp://10.0.0.1:8786")) == [(k, -k) for k in range(4000)]
    assert max(most) == 2000 and len(asked) < 40


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
    assert (tmp_path / ".gitignore").read_text() == "*\n"
    with pytest.raises(InputError, match="job .* failed: .*9 cannot be done") as e: list(by_slurm(wrong, [9], executor, 1, 0.05))
    assert "\n" not in str(e.value)
    monkeypatch.setattr(slurm, "AGAIN", 0)
    with pytest.raises(InputError, match="killed 1 times"): list(by_slurm(os._exit, [1], executor, 1, 0.05))


# nothing installed

@pytest.mark.parametrize("module, call, said", [("distributed", lambda p: dask_client("tcp://127.0.0.1:9"), "--scheduler needs Dask"),
                                                ("submitit", slurm_executor, "--executor slurm needs submitit")])
def test_what_is_not_installed_is_named_with_its_extra(module, call, said, tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == module]: monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"{said}.*pip install lgdcnn.cluster"): call(tmp_path)
