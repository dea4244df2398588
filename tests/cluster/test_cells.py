"A plan, a screening and a study on one Dask cluster, a worker killed in the middle of each; a plan by submitit's local jobs: the same numbers."
import errno
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from small_tasks import counted, few_rows, late, wrong
from test_benchmark import tiny_set
from test_slurm import slurm  # noqa: F401

from lgdcnn.benchmark.claims import Claims
from lgdcnn.benchmark.results import Cell
from lgdcnn.benchmark.store import ResultStore
from lgdcnn.benchmark.supervisor import Report
from lgdcnn.cli import main
from lgdcnn.cluster import cells, engines
from lgdcnn.cluster.cells import How, do_cell, run_by
from lgdcnn.cluster.engines import by_dask, dask_client, in_turn
from lgdcnn.cluster.studies import study_by
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.data.packing import write_pack
from lgdcnn.design.runs import PROTOCOL
from lgdcnn.design.stored import DesignPlan, read_runs, run_study
from lgdcnn.screening.aims import read_aim
from lgdcnn.screening.groups import element_list
from lgdcnn.screening.models import Named
from lgdcnn.screening.parts import ScreenQuestion
from lgdcnn.screening.report import short_list
from lgdcnn.screening.run import screen
from lgdcnn.screening.template import Template
from lgdcnn.studies.records import fill_lines

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


def test_a_cell_whose_worker_died_after_its_last_file_is_done(alone, tmp_path):
    "The scheduler sends it again, and the second finds it there: it was done in this run all the same."
    how, _, wanted = alone
    twice = lambda work, tasks: ((t, [work(t), work(t)][1]) for t in tasks)
    report = run_by(twice, CELLS[:2], how(str(tmp_path)))
    assert report.done == [c.id for c in CELLS[:2]] and report.code == report.left == 0 and not report.failed
    assert scores(tmp_path) == {n: wanted[n] for n in report.done}


def test_a_full_disk_ends_the_run_and_what_is_finished_stays(alone, tmp_path, monkeypatch):
    "No other cell is trained for nothing, and none is called a failure."
    how, _, wanted = alone
    plain, sent = ResultStore.write, []
    noted = lambda work, tasks: ((sent.append(t), (t, work(t)))[1] for t in tasks)
    def full(store, *rest):
        if len(sent) == 3: raise OSError(errno.ENOSPC, "No space left on device")
        plain(store, *rest)
    monkeypatch.setattr(ResultStore, "write", full)
    report = run_by(noted, CELLS, how(str(tmp_path)))
    assert report.why.startswith("no room to write (No space left on device); what is finished is kept") and "\n" not in report.why
    assert len(sent) == 3 and report.left == 4 and not report.failed and report.code == 1 and Claims(tmp_path).held() == []
    monkeypatch.setattr(ResultStore, "write", plain)
    assert len(run_by(in_turn, CELLS, how(str(tmp_path))).done) == 4 and scores(tmp_path) == wanted


def test_a_worker_that_writes_to_another_disk_is_noticed_at_its_first_cell(alone, tmp_path, monkeypatch):
    how, _, _ = alone
    monkeypatch.setattr(engines, "SEEN", 0.1)
    elsewhere = lambda work, tasks: ((t, {"failed": "", "passed": [], "stopped": ""}) for t in tasks)
    report = run_by(elsewhere, CELLS, how(str(tmp_path)))
    assert "all machines must see" in report.why and report.left == 6 and report.code == 1 and Claims(tmp_path).held() == []


def test_a_file_that_is_seen_late_is_seen(tmp_path):
    path = tmp_path / "row.json"
    (late := threading.Timer(0.3, path.write_text, ["{}"])).start()
    assert cells.seen(path)
    late.join()


def test_a_budget_that_is_spent_begins_nothing_and_puts_aside(alone, tmp_path):
    how, _, _ = alone
    spent = how(str(tmp_path), until=time.time() - 1)
    assert do_cell(spent, CELLS[0].id)["passed"] == ["too long for what is left"]
    report = run_by(lambda work, tasks: [pytest.fail("handed out") for t in tasks], CELLS, spent)
    assert report.left == 6 and report.code == 0 and Claims(tmp_path).held() == []
    paused = lambda work, tasks: ((t, {"failed": "", "passed": ["put aside, to go on with"], "stopped": ""}) for t in tasks)
    report = run_by(paused, CELLS[:1], how(str(tmp_path)))
    assert report.aside == {CELLS[0].id} and report.left == 1 and report.code == 0


def test_workers_elsewhere_are_told_all_that_the_command_was(tmp_path, monkeypatch):
    "Networks of one's own, the time there is, threads: what is not sent along is not there."
    told = {}
    monkeypatch.setattr(cells, "run_by", lambda engine, plan, how, note: told.update(engine=engine, how=how) or Report())
    monkeypatch.setattr(cells, "loaded", lambda: ["/own/network.py"])
    words = ["--executor", "slurm", "--slurm", "cpus_per_task=4", "--budget", "2h", "--keep-models", "--results", str(tmp_path)]
    start = time.time()
    assert CliRunner().invoke(main, ["benchmark", "run", "--cell", CELLS[0].id, *words]).exit_code == 0
    how, engine = told["how"], told["engine"]
    assert (how.load, how.threads, how.networks, how.until > start + 7190) == (("/own/network.py",), 4, True, True)
    assert engine.keywords["given_up"]("a/cell", "died")["failed"] == "died"
    seen = []
    monkeypatch.setattr(cells, "load_plugins", seen.append)
    monkeypatch.setattr(cells, "fill", lambda plan, store, load, machine, *rest, **more: seen.append(machine.threads) or SimpleNamespace(failed=[], passed={}, stopped=""))
    do_cell(How(str(tmp_path), device="cpu", load=("a.py",)), CELLS[0].id)
    assert seen == [("a.py",), 1]


def test_a_task_that_kills_its_workers_is_answered_for_where_others_can_go_on():
    KilledWorker = pytest.importorskip("distributed", reason="pip install lgdcnn[cluster]").KilledWorker
    class Dead:
        def result(self): raise KilledWorker("t", SimpleNamespace(address="tcp://10.0.0.2:1"), 3)
    assert engines._dask_answer(lambda task, why: (task, why.split(" (")[0]), Dead(), 7) == (7, "a task killed every worker that took it")
    with pytest.raises(InputError, match="10.0.0.2:1 was the last.*what is finished is kept"): engines._dask_answer(None, Dead(), 7)


# one cluster of two worker processes for all of it

@pytest.fixture(scope="module")
def address():
    distributed = pytest.importorskip("distributed", reason="pip install lgdcnn[cluster]")
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as c:
            yield c.scheduler_address


def kill_a_worker(address):
    client = dask_client(address)
    try: os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
    finally: client.close()


class Cruel:
    "Kill a worker when so many parts, cells or runs have come back."
    def __init__(self, address, after): self.address, self.after, self.seen, self.killed = address, after, 0, 0
    def __call__(self, *told):
        self.seen += 1
        if self.seen == self.after:
            self.killed += 1
            kill_a_worker(self.address)


def test_where_nobody_works_any_more_that_is_said_and_the_run_goes_on_when_somebody_comes(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="pip install lgdcnn[cluster]")
    monkeypatch.setattr(engines, "WATCH", 0.3)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50) as c:
        answers = by_dask(abs, [-1, -2, -3], c.scheduler_address)
        assert next(answers)[1] in (1, 2, 3)
        c.scale(0)
        with pytest.warns(UserWarning, match="no worker is left at the scheduler") as said:
            end = time.monotonic() + 20
            while not said.list and time.monotonic() < end: time.sleep(0.1)
        c.scale(1)
        assert len(list(answers)) == 2 and len(said.list) == 1


def test_what_is_wrong_with_a_cluster_is_one_line(address, monkeypatch):
    assert sorted(by_dask(abs, [-1, -2], address)) == [(-2, 2), (-1, 1)]
    with pytest.raises(InputError, match="3 cannot be done"): list(by_dask(wrong, [3], address))
    with pytest.raises(InputError, match="no scheduler answers at 'tcp://127.0.0.1:9'.*dask scheduler"): dask_client("tcp://127.0.0.1:9", 1)
    with pytest.raises(InputError, match="no scheduler answers at 'nonsense://x'"): dask_client("nonsense://x", 1)
    with pytest.raises(RuntimeError, match=r"a task ended with TimeoutError\('of a disk'\)"): list(by_dask(late, ["of a disk"], address))
    monkeypatch.setattr("lgdcnn.benchmark.provenance.code_version", lambda: {"source": "another"})  # of whoever asks; the workers have their own
    with pytest.raises(InputError, match="runs other code of lgdcnn.*another here.*install the same version"): list(by_dask(abs, [-1], address))


@pytest.mark.slow
def test_a_screening_has_the_parts_and_the_top_100_of_one_process(address, tmp_path):
    "Byte for byte."
    pattern = Template.of("A1-xA'xTiO3", {s: element_list("alkaline,La,Ce,Y") for s in ("A", "A'")}, "0:0.5:0.125")
    question = ScreenQuestion(pattern, (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),), (Named("gap", "band_gap_mp", "bf16"),), 0.6, rows=10)
    cruel = Cruel(address, 4)
    ways = {"one": screen(question, tmp_path / "one"),
            "dask": screen(question, tmp_path / "dask", partial(by_dask, address=address), progress=lambda stage: nullcontext(cruel))}
    bytes_of = lambda name: {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).glob("pass-*/*")}
    tops = [short_list(question, tmp_path / name, outcome, 100) for name, outcome in ways.items()]
    assert cruel.killed == 1 and ways["one"].n_parts[0] >= 30 and len(tops[0]) == 100
    assert bytes_of("one") == bytes_of("dask") and tops[0].equals(tops[1]) and ways["one"].counts == ways["dask"].counts


@pytest.mark.slow
def test_a_plan_loses_no_cell_and_does_none_twice(address, alone, tmp_path):
    "A worker is killed between two epochs: its cell is trained again, and no other is."
    how, _, wanted = alone
    victim, heard = CELLS[3].id, []
    engine = lambda work, tasks: by_dask(partial(counted, str(tmp_path), victim, work), tasks, address)
    report = run_by(engine, CELLS, how(str(tmp_path / "results")), heard.append)
    assert report.code == 0 and report.left == 0, str(report)
    assert {p.name: len(p.read_text()) for p in tmp_path.iterdir() if p.is_file()} == {c.id.replace("/", "-"): 1 + (c.id == victim) for c in CELLS}
    assert sorted(report.done) == sorted(wanted) and len(heard) == 6
    assert scores(tmp_path / "results") == wanted and Claims(tmp_path / "results").held() == []


@pytest.mark.slow
def test_a_study_has_the_lines_of_one_process_and_a_rerun_only_what_is_missing(address, tmp_path):
    plan = DesignPlan(1, datasets=("exp_formation_enthalpy",), seeds=(0,), protocol=PROTOCOL.replace(epochs=2))
    one, dask, cruel = tmp_path / "one", tmp_path / "dask", Cruel(address, 1)
    assert run_study(one, plan, share="1/2", load=few_rows) == 2
    study = partial(study_by, partial(by_dask, address=address), dask, plan, share="1/2", say=cruel, load=few_rows)
    assert study() == 2 and cruel.killed == 1 and study() == 0
    assert said(dask) == said(one) and len((dask / "runs.jsonl").read_text().splitlines()) == 2


def said(folder): return {r["design"]: {k: v for k, v in r.items() if k not in ("seconds", "provenance")} for r in read_runs(folder)}


def test_trials_that_are_written_in_a_notebook_go_to_dask_as_they_are(address, tmp_path):
    power = 2
    fill = partial(fill_lines, tmp_path / "t.csv", [{"way": k} for k in range(5)], lambda way: {"way": way, "answer": way ** power})
    assert [fill("1/2"), fill(engine=partial(by_dask, address=address)), fill()] == [3, 2, 0]
    assert sorted((tmp_path / "t.csv").read_text().split()) == ["0,0", "1,1", "2,4", "3,9", "4,16", "way,answer"]


# Slurm, by submitit's local jobs

@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="pip install lgdcnn[cluster]")
@pytest.mark.parametrize("where", ["local", "slurm"])
def test_submitit_runs_a_plan_from_the_command(where, alone, tmp_path, request):
    _, folder, wanted = alone
    if where == "slurm": request.getfixturevalue("slurm")
    cells = [w for c in CELLS[:2] for w in ("--cell", c.id)]
    words = ["benchmark", "run", *cells, "--executor", "slurm", "--workers", "2", "--device", "cpu", "--precision", "fp32", "--threads", "1",
             "--pack", str(folder / "pack.npz"), "--rehearse", str(folder / "small.json"), "--results", str(tmp_path / "results")]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 0 and told.stdout == "2 run\n", told.stderr
    assert ("note: there is no Slurm here" in told.stderr) == (where == "local")
    assert scores(tmp_path / "results") == {c.id: wanted[c.id] for c in CELLS[:2]}


def test_a_scheduler_that_does_not_answer_is_an_error(tmp_path, monkeypatch):
    "Nothing was run, so there is no report: one line on standard error, like any option that cannot be meant."
    def nobody(address, patience): raise InputError(f"no scheduler answers at {address!r}: start one")
    monkeypatch.setattr(engines, "dask_client", nobody)
    told = CliRunner().invoke(main, ["benchmark", "run", "--cell", CELLS[0].id, "--results", str(tmp_path), "--executor", "dask",
                                     "--scheduler", "tcp://127.0.0.1:9"])
    assert (told.exit_code, told.stdout) == (2, "") and told.stderr == "Error: no scheduler answers at 'tcp://127.0.0.1:9': start one\n"


@pytest.mark.parametrize("more, said", [(["--executor", "dask"], "give both"), (["--scheduler", "tcp://x:1"], "go together"),
                                        (["--executor", "slurm", "--slurm", "long"], "write it like partition=long"),
                                        (["--executor", "slurm", "--force"], "--force with --executor slurm is not possible")])
def test_options_that_do_not_go_together_are_one_line(more, said, tmp_path):
    told = CliRunner().invoke(main, ["benchmark", "run", "--cell", CELLS[0].id, "--results", str(tmp_path), *more])
    assert told.exit_code == 2 and said in told.stderr and len(told.stderr.splitlines()) == 1
