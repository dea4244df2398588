"A rehearsal without a card: workers die, the supervisor dies, the clock ends, the disk is full; nothing is lost or done twice."
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_benchmark import tiny_set

from lgdcnn.benchmark import supervisor as workers
from lgdcnn.benchmark import worker as benchmark
from lgdcnn.benchmark.__main__ import main
from lgdcnn.benchmark.results import Cell
from lgdcnn.benchmark.store import ResultStore, merge
from lgdcnn.benchmark.supervisor import Supervisor, run_workers
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.data.packing import load_pack, write_pack
from lgdcnn.training import device

SMALL = {"models": {"lstm": {"d_model": 16}}, "protocols": {"fast": {"epochs": 12, "batch_size": 7}, "brief": {"epochs": 300, "batch_size": 7}}}
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    write_pack(folder / "pack.npz", [tiny_set()])
    (folder / "small.json").write_text(json.dumps(SMALL))
    return folder


@pytest.fixture
def restored():
    kept = dict(MODELS), dict(PROTOCOLS)
    yield
    MODELS.update(kept[0])
    PROTOCOLS.update(kept[1])


def names(protocol="fast", seeds=2): return [f"salts/lstm.{protocol}.fold{k}.seed{s}" for s in range(seeds) for k in range(3)]


def options(place, results): return {"device": "cpu", "precision": "fp32", "pack": place / "pack.npz", "results": results,
                                     "rehearse": place / "small.json"}


def test_workers_killed_at_random_lose_nothing(place, tmp_path, monkeypatch, restored):
    "One cell kills whoever takes it and is set aside; another loses a worker in the middle and is taken again."
    rng, unlucky, log, lines = random.Random(3), set(), [], []
    deadly = names()[1]
    class Cruel(Supervisor):
        def hear(self, worker, told):
            log.append((told["event"], told.get("cell", "")))
            super().hear(worker, told)
            doomed = told["event"] == "begun" and told["cell"] == deadly
            if told["event"] == "epoch" and not unlucky and told["cell"] != deadly and rng.random() < 0.2:
                unlucky.add(told["cell"])
                doomed = True
            if doomed: worker.process.kill()
    monkeypatch.setattr(workers, "Supervisor", Cruel)
    store = ResultStore(tmp_path / "away")
    report = run_workers({"cell": names()}, 2, **options(place, store.folder), note=lines.append, every=0.5)
    assert report.code == 1 and report.set_aside == [deadly] and report.deaths[deadly] == 2 and not report.failed
    assert len(unlucky) == 1 and {report.deaths[c] for c in unlucky} == {1}
    assert sorted(report.done) == sorted(set(names()) - {deadly}) == sorted(c.id for c in store.cells())
    done = [cell for event, cell in log if event == "done"]
    assert len(done) == len(set(done)), "a cell was done twice"
    for row in store.rows(): assert store.predictions(row.cell).digest() == row.predictions and row.epochs == 12
    assert benchmark.Claims(store.folder).held() == []
    assert any(re.fullmatch(r"\d of 6 done; 2 workers, [\d,]+ rows/s, at .*; next .*; no limit", line) for line in lines), lines
    home = ResultStore(tmp_path / "home")
    report = merge(home, store)
    assert len(report["added"]) == 5 and [r.test for r in home.rows()] == [r.test for r in store.rows()]
    assert len(merge(home, store)["equal"]) == 5


def words_of(place, results, *words):
    cells = [w for name in names("brief", 1) for w in ("--cell", name)]
    return ["run", *cells, "--device", "cpu", "--precision", "fp32", "--pack", str(place / "pack.npz"), "--results", str(results),
            "--rehearse", str(place / "small.json"), "--every", "0.3", *words]


def claimed(results): return [json.loads(p.read_text() or "{}").get("pid") for p in Path(results).glob("work/claims/*/*.json")]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def alive(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    return True


def training(supervisor):
    "Read what a supervisor says until its workers train; a thread reads the rest."
    for line in supervisor.stderr:
        if re.search(r" \d+/300", line): break
    threading.Thread(target=supervisor.stderr.read, daemon=True).start()


def test_the_supervisor_dies_is_stopped_and_ends_in_time(place, tmp_path, restored, monkeypatch, capsys):
    "Killed: its workers put their cells aside and leave. Stopped: likewise. Its clock ends: likewise. Whoever comes then goes on where they were."
    checkpoints = lambda: {f"{p.parent.name}/{p.stem}" for p in tmp_path.glob("work/checkpoints/*/*.npz")}
    killed = subprocess.Popen([sys.executable, "-m", "lgdcnn.benchmark", *words_of(place, tmp_path, "--workers", "2")],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    training(killed)
    pids = claimed(tmp_path)
    killed.kill()
    wait_for(lambda: not any(map(alive, pids)))
    kept = checkpoints()
    assert len(pids) == 2 and kept and not claimed(tmp_path) and not ResultStore(tmp_path).cells()

    progress = Supervisor.progress  # stopped, when the worker has gone on where the other was
    def stopping(self):
        if re.search(r" \d+/300", line := progress(self)): os.kill(os.getpid(), signal.SIGTERM)
        return line
    with monkeypatch.context() as m:
        m.setattr(Supervisor, "progress", stopping)
        assert main(words_of(place, tmp_path, "--workers", "1")) == 130
    assert capsys.readouterr().out.startswith("0 run; 1 put aside, to go on with; 3 left")
    assert kept <= checkpoints() and not claimed(tmp_path)

    began = time.monotonic()
    assert main(words_of(place, tmp_path, "--workers", "1", "--budget", "7s")) == 0
    assert time.monotonic() - began < 7 + 25 and "3 left" in capsys.readouterr().out
    assert kept <= checkpoints() and not claimed(tmp_path) and not list(tmp_path.rglob("*.part"))

    benchmark.shrink(place / "small.json")
    first = {}
    def hear(event, cell, facts):
        if event == "epoch" and first.setdefault(cell.id, facts["epoch"]): raise KeyboardInterrupt
    cells = [Cell.from_id(name) for name in names("brief", 1)]
    for cell in (c for c in cells if c.id in kept):
        with pytest.raises(KeyboardInterrupt):
            benchmark.fill([cell], ResultStore(tmp_path), benchmark.loader(place / "pack.npz"), device.Machine.choose("cpu", "fp32"), in_parts=True, tell=hear)
    assert first.keys() == kept and min(first.values()) > 1, "what was put aside goes on where it was"


def test_a_full_disk_stops_with_one_line_and_leaves_nothing_half_written(place, tmp_path, restored, monkeypatch, capsys):
    "A worker cannot write files above 9 kB: a row could be, a checkpoint cannot."
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
    monkeypatch.setattr(subprocess, "Popen", partial(subprocess.Popen, preexec_fn=limit))
    assert main(words_of(place, tmp_path, "--workers", "1", "--protocol", "fast")) == 1
    told = capsys.readouterr()
    assert told.out.count("\n") == 1 and "3 left; stopped: no room to write (File too large)" in told.out, told.err
    assert not ResultStore(tmp_path).cells() and not claimed(tmp_path) and not list(tmp_path.rglob("*.npz"))


def test_what_cannot_be_is_refused_before_a_worker_starts(place, tmp_path, monkeypatch, capsys, restored):
    monkeypatch.setattr(Supervisor, "start", lambda self: pytest.fail("a worker was started"))
    whole, pack = (place / "pack.npz").read_bytes(), tmp_path / "p.npz"
    def say(content, *words):
        pack.write_bytes(content)
        words = [*words_of(place, tmp_path / "r"), "--workers", "2", "--pack", str(pack), *words]
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and not list(tmp_path.glob("r/runs/*")), err
        return err
    middle = len(whole) // 2
    for damaged in (b"", whole[:-9], whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:]):
        assert "no data pack of this version, or damaged" in say(damaged)
    from lgdcnn.data import packing
    with monkeypatch.context() as m:
        m.setattr(packing, "_FORMATS", ("lgdcnn-pack-0",) * 2)
        old = write_pack(tmp_path / "old.npz", [tiny_set()]).read_bytes()
    assert "format 'lgdcnn-pack-0'" in say(old)
    assert "has no data for this plan: it lacks salts" in say(write_pack(tmp_path / "q.npz", [tiny_set("other")]).read_bytes())
    assert "device 'cuda:9' cannot be used here" in say(whole, "--device", "cuda:9")
    assert "5000 workers need about" in say(whole, "--workers", "5000") and "at least 1" in say(whole, "--workers", "0")
    assert "shorter than one epoch" in say(whole, "--budget", "0.0001") and "is no time" in say(whole, "--budget", "soon")
    assert "--force with --workers" in say(whole, "--force") and "holds no changes" in say(whole, "--rehearse", str(pack))
    assert load_pack(place / "pack.npz")


class Silent(Supervisor):
    "A supervisor whose workers do nothing, to be told what happens."
    def start(self):
        self.started += 1
        worker = SimpleNamespace(cell="", rate=0.0, epoch="", told=False, sent=[], process=SimpleNamespace(kill=lambda: None))
        worker.send = worker.sent.append
        self.running.append(worker)


@pytest.fixture
def silent(tmp_path):
    plan = [Cell("salts", k, "lstm", "fast", 0) for k in range(3)]
    return Silent(plan, ResultStore(tmp_path), 2, {"device": "cpu", "threads": 1})


def test_without_memory_there_are_fewer_workers_and_in_the_end_a_failure(silent):
    a, b, c = (cell.id for cell in silent.plan)
    silent.start()
    silent.start()
    first, second = silent.running
    for w, cell in ((first, a), (second, b)): silent.hear(w, {"event": "begun", "cell": cell})
    silent.hear(first, {"event": "failed", "cell": a, "why": "out of memory", "memory": True})
    silent.hear(first, {"event": "exit", "code": 4})
    assert silent.running == [second] and silent.wanted == 1 and not silent.report.failed and silent.started == 2
    silent.hear(second, {"event": "exit", "code": 4})
    assert list(silent.report.failed) == [b] and silent.started == 3 and silent.without() == [b]


def test_a_failed_cell_is_told_to_all_and_workers_that_cannot_start_are_not_started_for_ever(silent):
    silent.start()
    silent.start()
    first, second = silent.running
    silent.hear(first, {"event": "failed", "cell": "x", "why": "TrainingError: the loss became nan", "memory": False})
    assert [json.loads(line) for line in second.sent] == [{"without": ["x"]}]
    for _ in range(9):
        if silent.running: silent.hear(silent.running[0], {"event": "exit", "code": -11})
    assert silent.report.why == "workers die before their first cell (SIGSEGV)" and silent.started == 2 + 3


def test_nothing_to_do_starts_nothing(place, tmp_path, monkeypatch, restored):
    monkeypatch.setattr(Supervisor, "start", lambda self: pytest.fail("a worker was started"))
    monkeypatch.setattr(ResultStore, "has", lambda self, cell: True)
    assert str(run_workers({"cell": names()}, 2, **options(place, tmp_path))) == "0 run"


def test_memory_is_counted_for_host_and_card():
    card = torch.device("cuda")
    workers.check_memory(8, card, {"host": 30, "card": 70})
    with pytest.raises(InputError, match="20 workers need about 80 GB of the card's memory, and 70.0 GB are free: at most 17 fit"):
        workers.check_memory(20, card, {"host": 100, "card": 70})
