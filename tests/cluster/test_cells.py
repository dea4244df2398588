"A plan run by Dask, one worker killed in the middle, and by submitit's local jobs: no cell lost, none twice, the same numbers."
import importlib.util
import json
import os
import signal
from functools import partial

import pytest
from click.testing import CliRunner
from test_benchmark import tiny_set

from lgdcnn.benchmark.claims import Claims
from lgdcnn.benchmark.results import Cell
from lgdcnn.benchmark.store import ResultStore
from lgdcnn.cli import main
from lgdcnn.cluster.cells import How, do_cell, run_by
from lgdcnn.cluster.engines import by_dask, in_turn
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.data.packing import write_pack

SMALL = {"models": {"lstm": {"d_model": 16}}, "protocols": {"fast": {"epochs": 4, "batch_size": 7}}}
CELLS = [Cell.from_id(f"salts/lstm.fast.fold{k}.seed{s}") for s in range(2) for k in range(3)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "A plan of six cells in this process; what it says of each."
    folder = tmp_path_factory.mktemp("plan")
    write_pack(folder / "pack.npz", [tiny_set()])
    (folder / "small.json").write_text(json.dumps(SMALL))
    kept = dict(MODELS), dict(PROTOCOLS)
    how = partial(How, pack=str(folder / "pack.npz"), device="cpu", precision="fp32", threads=1, rehearse=str(folder / "small.json"))
    report = run_by(in_turn, CELLS, how(str(folder / "alone")))
    assert sorted(report.done) == sorted(c.id for c in CELLS) and report.code == 0
    yield how, folder, scores(folder / "alone")
    MODELS.update(kept[0])
    PROTOCOLS.update(kept[1])


def scores(folder): return {r.cell.id: (r.test, r.predictions, r.epochs) for r in ResultStore(folder).rows()}


def test_what_is_done_or_in_work_is_not_sent_and_what_fails_is_said(alone, tmp_path):
    how, folder, _ = alone
    sent, lines = [], []
    noted = lambda work, tasks: ((sent.append(t), (t, work(t)))[1] for t in tasks)
    do_cell(how(str(tmp_path)), CELLS[0].id)
    assert Claims(tmp_path).held() == [] and Claims(tmp_path).take(CELLS[1])
    bad = Cell.from_id("nothing/lstm.fast.fold0.seed0")  # the pack has no such data
    report = run_by(noted, [*CELLS[:3], bad], how(str(tmp_path)), lines.append)
    assert sent == [CELLS[2].id, bad.id] and report.done == [CELLS[2].id] and list(report.failed) == [bad.id]
    assert report.code == 1 and report.left == 1 and Claims(tmp_path).held() == [CELLS[1]] and len(lines) == 2


def test_an_engine_that_fails_gives_its_claims_back(alone, tmp_path):
    how, _, _ = alone
    def fails(work, tasks):
        next(tasks)
        raise InputError("the scheduler has gone")
        yield
    report = run_by(fails, CELLS, how(str(tmp_path)))
    assert report.why == "the scheduler has gone" and report.code == 1 and report.left == 6 and Claims(tmp_path).held() == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="pip install lgdcnn[cluster]")
def test_two_dask_workers_one_killed_run_a_plan(alone, tmp_path, monkeypatch):
    from distributed import LocalCluster
    how, _, wanted = alone
    killed, log = [], []
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as cluster:
        pids = [w.pid for w in cluster.workers.values()]
        def note(line):
            log.append(line)
            if not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)
        report = run_by(partial(by_dask, address=cluster.scheduler_address), CELLS, how(str(tmp_path)), note)
    assert killed and report.code == 0 and report.left == 0, str(report)
    assert sorted(report.done) == sorted(set(report.done)) == sorted(wanted), "a cell was lost, or done twice"
    assert scores(tmp_path) == wanted and Claims(tmp_path).held() == [] and len(log) == 6


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="pip install lgdcnn[cluster]")
def test_submitit_runs_a_plan_from_the_command(alone, tmp_path):
    _, folder, wanted = alone
    cells = [w for c in CELLS[:2] for w in ("--cell", c.id)]
    words = ["benchmark", "run", *cells, "--executor", "slurm", "--workers", "2", "--device", "cpu", "--precision", "fp32", "--threads", "1",
             "--pack", str(folder / "pack.npz"), "--rehearse", str(folder / "small.json"), "--results", str(tmp_path)]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 0 and told.stdout == "2 run\n", told.stderr
    assert scores(tmp_path) == {c.id: wanted[c.id] for c in CELLS[:2]}


@pytest.mark.parametrize("more, said", [(["--executor", "dask"], "give both"), (["--scheduler", "tcp://x:1"], "go together"),
                                        (["--executor", "slurm", "--slurm", "long"], "write it like partition=long"),
                                        (["--executor", "slurm", "--force"], "--force with --executor slurm is not possible")])
def test_options_that_do_not_go_together_are_one_line(more, said, tmp_path):
    told = CliRunner().invoke(main, ["benchmark", "run", "--cell", CELLS[0].id, "--results", str(tmp_path), *more])
    assert told.exit_code == 2 and said in told.stderr and len(told.stderr.splitlines()) == 1
