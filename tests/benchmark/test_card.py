"The check tells a wrong device from one that rounds; the plan for a card puts first what a processor cannot do; parts are sets."
import csv
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_benchmark import tiny_set

from lgdcnn.benchmark import card, plan, runs
from lgdcnn.benchmark import worker as benchmark
from lgdcnn.benchmark.__main__ import main
from lgdcnn.benchmark.results import Cell, example_row
from lgdcnn.benchmark.store import ResultStore, merge
from lgdcnn.cli.benchmark import benchmark as commands
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.data.parts import SHARES, TEST_SHARE, divide_rows, part_name, part_set
from lgdcnn.networks.models import build_model
from lgdcnn.networks.saved import load_network, save_network
from lgdcnn.training import device
from lgdcnn.training.loop import predict

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch): monkeypatch.setitem(MODELS, "l-g-dcnn", MODELS["l-g-dcnn"].replace(d_model=32, conv_width=32))


def test_a_card_that_computes_something_else_is_told(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(card, "points_for", lambda device: [("eager", 16, 1), ("captured", 16, 1)])
    store = tmp_path / "benchmark"
    assert main(["card", "--device", "cpu", "--results", str(store), "--seconds", "600"]) == 0
    file, = (tmp_path / "speed").glob("card_cpu*.csv")
    lines = list(csv.DictReader(file.open()))
    checks = [line for line in lines if line["bound"]]
    assert [line["ok"] for line in checks] == ["yes"] * 6 and {line["way"] for line in checks} == {"fp32", "bf16"}
    assert float(checks[0]["value"]) == 0 < float(checks[1]["value"]) and checks[3]["what"] == "losses 41 to 50"
    eager, captured = (line for line in lines if line["what"] == "rate")
    assert float(eager["value"]) > 0 and captured["value"] == "" and captured["note"] == "not recorded on this device"
    assert [line["what"] for line in lines[-3:]] == ["seconds for the 28 sets once", "seconds for the whole plan", "cells within 540 s"]
    assert plan.card_rates(file) == {("eager", 16): float(eager["value"])} and plan.card_rates(tmp_path / "none.csv") == {}
    assert "at most 0.001: yes" in capsys.readouterr().out
    honest = card.prediction
    monkeypatch.setattr(card, "prediction", lambda device, p, *n: honest(device, p, *n) * (1 + 0.1 * (p == "bf16")))
    monkeypatch.setattr(card, "points_for", lambda device: [])
    monkeypatch.setattr(card, "rates", lambda *a: [])
    assert main(["card", "--device", "cpu", "--results", str(store), "--seconds", "20"]) == 1
    assert "at most 0.02: NO" in capsys.readouterr().out


def test_the_check_ends_in_time(small, tmp_path, monkeypatch):
    began = time.monotonic()
    lines, _ = card.measure_card("cpu", 1.0, tmp_path / "benchmark")
    assert time.monotonic() - began < 30
    rates = [line for line in lines if line["what"] == "rate"]
    assert rates and all(line["value"] == "" and "no time" in line["note"] for line in rates)


def test_the_plan_for_a_card(monkeypatch):
    cells = plan.card_plan()
    once = sum(plan.n_folds(d) for d in plan.by_size())
    assert {c.dataset for c in cells[:once]} == set(plan.by_size()) and {c.model for c in cells[:once]} == {"l-g-dcnn"}
    rows = [plan.cards()[c.dataset].rows for c in cells[:once]]
    assert rows == sorted(rows, reverse=True)
    after = cells[once:]
    classes = sum(plan.n_folds(d) for d in plan.by_size("classification"))
    assert {c.dataset for c in after[:classes]} == set(plan.by_size("classification"))
    sampled = after[classes:classes + len(SHARES)]
    assert [c.dataset for c in sampled] == [part_name("OQMD_Bandgap", s) for s in SHARES]
    compared = [c.model for c in after[classes + len(SHARES):][:6]]
    assert compared == [m for m in plan.CECV_NETWORKS if m != "l-g-dcnn"]  # which stands in the table already
    for c in cells: assert runs.impossible(c) == ""
    assert plan.make_plan(["matbench_steels"], ["l-g-dcnn"], seed=["0"], device="cuda NVIDIA")[0].protocol == "fast"
    monkeypatch.setitem(PROTOCOLS, "large", PROTOCOLS["fast"].replace(name="large", batch_size=1024, batches="stratified"))
    cells = plan.card_plan()
    assert {c.protocol for c in cells if c.dataset == "OQMD_Bandgap"} == {"large"}
    assert [c.protocol for c in cells if c.dataset.startswith("OQMD_Bandgap-")] == ["fast"] * 2 + ["medium"] * 2 + ["large"] * 4
    kept = [c for c in cells if plan.is_kept(c)]
    assert {c.model for c in kept if c.dataset == "CritExam__Ef"} == set(plan.CECV_NETWORKS) and len(kept) == 8 + 21
    fast = {("eager", 128): 1e5, ("captured", 1024): 2e6, ("captured", 128): 1e5}
    lines = plan.schedule(cells[:1], [], "cuda", 540, fast)
    expected = plan._train_rows(cells[0].dataset) * 60 / 2e6
    assert lines[0]["seconds"] == pytest.approx(expected) and lines[0]["basis"] == "card"


def test_parts_are_those_of_the_figure():
    from lgdcnn.studies.sample_efficiency import FRACTIONS, SamplePlan, divide, part
    assert [s / 1000 for s in SHARES] == list(FRACTIONS) and TEST_SHARE == SamplePlan().test_share
    data, (test, rest) = tiny_set(), divide(24, SamplePlan())
    assert all(np.array_equal(a, b) for a, b in zip(divide_rows(24), (test, rest), strict=True))
    for share in (200, 600, 1000):
        split = part_set(data, share).splits[0]
        assert np.array_equal(split.train, part(rest, 24, share / 1000)) and np.array_equal(split.test, test)


def test_a_part_is_learnt_like_any_set_and_its_network_is_kept_on_a_card(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "l-g-dcnn", MODELS["l-g-dcnn"].replace(d_model=16, conv_width=16))
    monkeypatch.setitem(PROTOCOLS, "fast", PROTOCOLS["fast"].replace(epochs=2, batch_size=8))
    data, store = tiny_set(), ResultStore(tmp_path)
    load = benchmark.loader()
    monkeypatch.setattr("lgdcnn.data.datasets.load_dataset", lambda name: type("D", (), {"to_arrays": lambda self: data})())
    cell = Cell("salts-600-of-1000", 0, "l-g-dcnn", "fast", 0)
    machine = device.Machine.choose("cpu", "fp32")
    assert len(benchmark.fill([cell], store, load, machine).done) == 1 and not list(tmp_path.rglob("*.npz"))
    row = store.read(cell)
    assert (row.n_train, row.n_val, row.n_test) == (15, 0, 2) and row.val == row.coverage == row.multiples == {}
    monkeypatch.setattr(type(machine), "label", property(lambda self: "cuda Stand-in"))
    benchmark.fill([cell], store, load, machine, force=True)
    network, facts = load_network(tmp_path / "networks" / f"{cell.id}.npz")
    p, part = store.predictions(cell), load(cell.dataset)
    shift, scale = facts["scales"][0]
    mean = shift + scale * predict(network, runs.CompositionTensors(part.part("test")[0]))[0][:, 0].numpy()
    assert facts["cell"] == cell.id and mean == pytest.approx(p.mean, abs=2e-3)
    assert (tmp_path / "networks" / ".gitignore").read_text() == "*\n"


def test_kept_networks_come_home_with_their_rows_and_no_other_does(tmp_path):
    there, here = ResultStore(tmp_path / "there"), ResultStore(tmp_path / "here")
    rows = [example_row(seed=k) for k in range(4)]
    network = build_model(MODELS["lstm"].replace(d_model=16))
    for row in rows:
        there.write(row)
        save_network(there.network_room(row.cell), network, {"cell": row.cell.id})
    here.write(rows[1])  # the same run, whose network stayed there
    here.write(replace(rows[2], seconds=99.0))  # another run of the cell: that network is not its own
    there.network_path(rows[3].cell).write_bytes(b"cut")
    with pytest.warns(UserWarning, match="not merged: .* no saved network"): merge(here, there)
    assert [here.network_path(r.cell).exists() for r in rows] == [True, True, False, False]
    assert load_network(here.network_path(rows[0].cell))[1]["cell"] == rows[0].cell.id and here.has(rows[3].cell)
    assert (here.folder / "networks" / ".gitignore").read_text() == "*\n"
    save_network(there.network_path(rows[3].cell), network, {"cell": rows[0].cell.id})
    with pytest.warns(UserWarning, match="holds the network of"): merge(here, there)
    assert not here.network_path(rows[3].cell).exists()


def test_commands_name_what_is_not_there(tmp_path):
    say = lambda *words: CliRunner().invoke(commands, [*words, "--results", str(tmp_path)])
    assert isinstance(say("card", "--device", "abacus").exception, InputError)
    shown = say("plan", "--device", "cuda", "--dataset", "OQMD_Bandgap", "--model", "l-g-dcnn", "--format", "json")
    assert json.loads(shown.stdout)[0].keys() == {"cell", "seconds", "sum", "fits", "basis"}
    assert "9m end after" in shown.stderr and "to carry:" in shown.stderr
    assert isinstance(say("plan", "--device", "cuda", "--budget", "soon").exception, InputError)


def test_what_has_to_be_carried_stays_small(root):
    "The files of the clone that a worker needs, and the packs of all data sets: at most 60 MB."
    from lgdcnn.config import cache_path
    from lgdcnn.data.registry import cards
    files = card.carried(root)
    sets = [cache_path() / "datasets-2" / f"{name}.npz" for name in cards()]
    data = sum(p.stat().st_size for p in sets if p.is_file()) if all(p.is_file() for p in sets) else 29.2e6
    assert 5e6 < files and files + data < card.LIMIT, f"{files / 1e6:.1f} MB of files and {data / 1e6:.1f} MB of data"


def test_a_row_of_another_version_does_not_stop_a_worker(tmp_path):
    "A row that cannot be read teaches a worker nothing, and stops nothing."
    store, data = ResultStore(tmp_path), tiny_set()
    cells = [Cell("salts", k, "mean", "none", 0) for k in range(2)]
    done = []
    def load(name):
        broken = replace(cells[0], seed=9)
        store.row_path(broken).parent.mkdir(parents=True, exist_ok=True)
        store.row_path(broken).write_text("{}")
        return data
    benchmark.fill(cells, store, load, device.Machine.choose("cpu", "fp32"), tell=lambda event, cell, facts: done.append(event))
    assert done.count("done") == 2
