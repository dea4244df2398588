"Submitit's jobs of Slurm, on a Slurm of one machine: what they answer, and what happens to those that die, are preempted, run out of time or are not taken."
import contextlib
import importlib.util
import operator
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from small_tasks import deadly, fatal, sober

from lgdcnn.cluster import slurm as room
from lgdcnn.cluster.slurm import by_slurm, engine_of, slurm_executor
from lgdcnn.config import InputError

pytestmark = [pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="pip install lgdcnn[cluster]"),
              pytest.mark.skipif(sys.platform != "linux", reason="setsid")]
NAMES = ("sbatch", "srun", "sacct", "scancel", "scontrol", "job")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    "Put a Slurm of one machine into PATH; its folder."
    (folder := tmp_path / "slurm").mkdir()
    (place := tmp_path / "bin").mkdir()
    for name in NAMES: (place / name).symlink_to(Path(__file__).parent / "fake_slurm.sh")
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0.1)
    yield folder
    for pid in folder.glob("*.pid"):
        try: os.killpg(int(pid.read_text()), signal.SIGKILL)
        except ProcessLookupError: pass


def step(folder, job, task):
    "Return the process of a job's Python, once its task has begun."
    end = time.monotonic() + 60
    while not (task.exists() and (folder / f"step-{job}").exists()):
        assert time.monotonic() < end, [p.read_text() for p in folder.glob("out-*")]
        time.sleep(0.02)
    return int((folder / f"step-{job}").read_text())


def later(f, *args):
    (thread := threading.Thread(target=f, args=args)).start()
    return thread


def test_jobs_answer_in_arrays_and_one_that_dies_is_sent_again(slurm, tmp_path):
    (tmp_path / "t").mkdir()
    executor = slurm_executor(tmp_path / "logs", slurm_partition="long", mem_gb=8)
    assert executor.cluster == "slurm"
    done = list(by_slurm(deadly, [(str(tmp_path / "t"), k) for k in (4, 5)], executor, 300, 0.05))
    assert sorted((k, a) for (_, k), a in done) == [(4, -4), (5, -5)]
    assert {p.name: len(p.read_text()) for p in (tmp_path / "t").iterdir()} == {"4": 1, "5": 2}
    said = (slurm / "1.sh").read_text()
    assert "#SBATCH --partition=long" in said and "--mem=8GB" in said and "--time=1440" in said and "--array=0-1%2" in said
    assert not (slurm / "2.sh").read_text().count("--array")  # the second time it was one job


@pytest.mark.parametrize("late", [False, True])
def test_a_job_that_is_preempted_or_out_of_time_is_queued_again_by_slurm(late, slurm, tmp_path):
    "Whether its work takes an error for a failure or not: it is none."
    (tmp_path / "t").mkdir()
    executor = slurm_executor(tmp_path / "logs", 1e-9 if late else 24)
    if late: executor.update_parameters(slurm_time=0)  # any time is too long
    warn = later(lambda: os.kill(step(slurm, "1", tmp_path / "t" / "7"), signal.SIGUSR2))
    assert [a for _, a in by_slurm(sober, [(str(tmp_path / "t"), 7)], executor, 1, 0.05)] == [-7]
    warn.join()
    assert (slurm / "log-1").read_text() == "begun\n" * 2 and (slurm / "last").read_text() == "1\n"


def test_a_preempted_job_that_nobody_queues_again_is_sent_again(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "PREEMPTED", 0.5)
    (tmp_path / "t").mkdir()
    def preempted():
        os.kill(step(slurm, "1", tmp_path / "t" / "7"), signal.SIGKILL)
        (slurm / "state-1").write_text("PREEMPTED")
    gone = later(preempted)
    assert [a for _, a in by_slurm(sober, [(str(tmp_path / "t"), 7)], slurm_executor(tmp_path / "logs"), 1, 0.05)] == [-7]
    gone.join()
    assert (slurm / "last").read_text() == "2\n"


def test_what_slurm_does_not_take_is_one_line(slurm, tmp_path, capsys):
    (slurm / "refuse").write_text("sbatch: error: invalid partition specified: longer\n")
    with pytest.raises(InputError, match="Slurm takes no jobs: .*invalid partition specified: longer") as e:
        list(by_slurm(operator.neg, [1, 2], slurm_executor(tmp_path), 2, 0.05))
    assert "\n" not in str(e.value) and capsys.readouterr() == ("", "")


def test_a_busy_slurm_is_asked_again_as_long_as_jobs_are_underway(monkeypatch):
    from submitit.core.utils import FailedJobError
    monkeypatch.setattr(room, "BUSY", 0.05)
    class Job:
        state, looks = "RUNNING", 0
        def __init__(self, answer): self.answer = answer
        def done(self):
            self.looks += 1
            return self.looks > 3 * self.answer
        def exception(self): return None
        def result(self): return -self.answer
    class Busy:
        asked, batch = [], contextlib.nullcontext
        def submit(self, work, task):
            self.asked.append(task)
            if len(self.asked) in refused: raise FailedJobError("sbatch: error: Socket timed out on send/recv operation")
            return Job(task)
    refused = (3, 4)  # twice the third task, when the first is back and the second is not
    assert list(by_slurm(operator.neg, [1, 9, 3], Busy(), 2, 0.01)) == [(1, -1), (3, -3), (9, -9)]
    assert Busy.asked == [1, 9, 3, 3, 3]
    Busy.asked, refused = [], (1,)
    with pytest.raises(InputError, match="Slurm takes no jobs: .*Socket timed out"): list(by_slurm(operator.neg, [1], Busy(), 2, 0.01))


def test_a_task_that_kills_its_jobs_is_answered_for_where_others_can_go_on(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "AGAIN", 0)
    told = dict(by_slurm(fatal, [0, 3], slurm_executor(tmp_path), 2, 0.05, lambda task, why: why.split(" (")[0]))
    assert told == {0: 0, 3: "a job was killed 1 times"}


@pytest.fixture
def interruptible():
    "Let SIGINT be an exception, whatever tests before have left of it: as it is by default it ends the whole process."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_jobs_are_cancelled_whoever_ends_the_run(slurm, tmp_path, interruptible):
    "All of them, though one is gone already."
    (tmp_path / "t").mkdir()
    answers = by_slurm(sober, iter([(str(tmp_path / "t"), k) for k in (7, 8)]), slurm_executor(tmp_path / "logs"), 2, 0.05)
    def interrupt():
        for k in (0, 1): pid = step(slurm, f"1_{k}", tmp_path / "t" / str(7 + k))
        (slurm / "1_0.pid").write_text("999999999")  # scancel does not know it
        signal.raise_signal(signal.SIGINT)
        return pid
    stop = later(interrupt)
    with pytest.raises(KeyboardInterrupt): next(answers)
    stop.join()
    assert (slurm / "state-1_0").exists() and (slurm / "state-1_1").exists()


def test_a_slurm_without_its_commands_is_one_line(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("sbatch", "sacct"):
        (gone := tmp_path / "bin" / name).unlink()
        with pytest.raises(InputError, match=f"no command {name}.*module"): slurm_executor(tmp_path)
        gone.symlink_to(Path(__file__).parent / "fake_slurm.sh")


@pytest.mark.parametrize("words, said", [(("colour=red",), "no such option"), (("mem_gb=lots",), "no such option"), (("nodes=2",), "one process"), (("tasks_per_node=2",), "one process")])
def test_options_that_slurm_or_we_do_not_take(words, said, slurm, tmp_path):
    with pytest.raises(InputError, match=said) as e: engine_of("slurm", 2, None, words, logs=tmp_path)
    assert "\n" not in str(e.value)


def test_a_job_with_other_code_is_one_line(slurm, tmp_path, monkeypatch):
    "The package was installed anew while the job waited."
    monkeypatch.setattr("lgdcnn.benchmark.provenance.code_version", lambda: {"source": "another"})  # of whoever sends
    with pytest.raises(InputError, match="runs other code of lgdcnn.*another here"): list(by_slurm(operator.neg, [1], slurm_executor(tmp_path), 1, 0.05))


def test_more_jobs_than_submitit_lets_run_at_once(slurm, tmp_path):
    assert engine_of("slurm", 1000, None, (), logs=tmp_path).keywords["executor"]._executor.parameters["array_parallelism"] == 1000
    assert engine_of("slurm", 1000, None, ("array_parallelism=9",), logs=tmp_path).keywords["executor"]._executor.parameters["array_parallelism"] == 9
