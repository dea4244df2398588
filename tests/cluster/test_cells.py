"A plan, a screening and a study on one Dask cluster, a worker killed in the middle of each; a plan by submitit's local jobs: the same numbers."
import importlib.util
import json
import os
import signal
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_tasks import few_rows, wrong
from test_benchmark import tiny_set

from lgdcnn.benchmark.claims import Claims
from lgdcnn.benchmark.results import Cell
from lgdcnn.benchmark.store import ResultStore
from lgdcnn.cli import main
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


def test_what_is_wrong_with_a_cluster_is_one_line(address, monkeypatch):
    assert sorted(by_dask(abs, [-1, -2], address)) == [(-2, 2), (-1, 1)]
    with pytest.raises(InputError, match="3 cannot be done"): list(by_dask(wrong, [3], address))
    with pytest.raises(InputError, match="no scheduler answers at 'tcp://127.0.0.1:9'.*dask scheduler"): dask_client("tcp://127.0.0.1:9", 1)
    with pytest.raises(InputError, match="no scheduler answers at 'nonsense://x'"): dask_client("nonsense://x", 1)
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
    how, _, wanted = alone
    cruel = Cruel(address, 1)
    report = run_by(partial(by_dask, address=address), CELLS, how(str(tmp_path)), cruel)
    assert cruel.killed == 1 and report.code == 0 and report.left == 0, str(report)
    assert sorted(report.done) == sorted(set(report.done)) == sorted(wanted), "a cell was lost, or done twice"
    assert scores(tmp_path) == wanted and Claims(tmp_path).held() == [] and cruel.seen == 6


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
