"The worker loses nothing when it is killed, does nothing twice, repeats its numbers, and the table adds up."
import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from lgdcnn.benchmark import plan, runs
from lgdcnn.benchmark import worker as benchmark
from lgdcnn.benchmark.results import Cell, Predictions
from lgdcnn.benchmark.store import ResultStore
from lgdcnn.cli.benchmark import benchmark as commands
from lgdcnn.comparison import against, paired, table
from lgdcnn.composition import featurize
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.data.packing import ArraySet, write_pack
from lgdcnn.data.splits import Split
from lgdcnn.training import device

FORMULAS = [a + b for a in ("Li", "Na", "K", "Rb", "Cs") for b in ("F", "Cl", "Br", "I")] + ["Si", "Ge", "C", "Sn"]


def tiny_set(name="salts", n_folds=3, task="regression"):
    n, rng = len(FORMULAS), np.random.default_rng(0)
    order = [rng.permutation(n) for _ in range(n_folds)]
    splits = [Split(np.sort(o[:14]), np.sort(o[14:19]), np.sort(o[19:])) for o in order]
    target = rng.normal(size=n) if task == "regression" else np.arange(n) % 2
    return ArraySet(name, "melting point", "K", task, featurize(FORMULAS), target, splits, FORMULAS)


@pytest.fixture
def pack(tmp_path): return write_pack(tmp_path / "pack.npz", [tiny_set()])


@pytest.fixture
def tiny(monkeypatch):
    for name in list(MODELS):
        monkeypatch.setitem(MODELS, name, MODELS[name].replace(d_model=16, conv_width=16, add=()))
    for name in list(PROTOCOLS):
        monkeypatch.setitem(PROTOCOLS, name, PROTOCOLS[name].replace(epochs=2, batch_size=8))


CPU = device.Machine.choose("cpu", "fp32")

# One process imports torch once and forks workers from then on; so twenty kills take seconds.
NURSERY = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from lgdcnn.benchmark import worker as benchmark
from lgdcnn.benchmark import runs
from lgdcnn.config import MODELS, PROTOCOLS
from lgdcnn.benchmark.results import Cell, Predictions
from lgdcnn.benchmark.store import ResultStore
from lgdcnn.training.device import Machine
pack, folder = sys.argv[1:]
MODELS["lstm"] = MODELS["lstm"].replace(d_model=16)
PROTOCOLS["fast"] = PROTOCOLS["fast"].replace(epochs=3, batch_size=7)
plan = [Cell("salts", fold, "lstm", "fast", seed) for seed in range(8) for fold in range(3)]
store, rng = ResultStore(folder), random.Random(0)
runs.code_version()  # asks git; remembered by all workers

def worker():
    pid = os.fork()
    if pid: return pid
    def note(text):
        if ": test mae" in text:  # stored; one write is atomic, so workers may share the file
            with open(f"{folder}.log", "a") as f: f.write(text.split(": test")[0] + chr(10))
    benchmark.fill(plan, store, benchmark.loader(pack), Machine.choose("cpu", "fp32", 1), note=note)
    os._exit(0)

def stored(): return {p.name: p.read_bytes() for p in Path(folder).glob("runs/*/*.json")}

seen, kills, unfinished = {}, 0, 0
while kills < 20:
    pids = [worker() for _ in range(2)]
    time.sleep(rng.uniform(0.0, 0.3))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        kills += os.WIFSIGNALED(status)
    now = stored()
    assert all(now.get(k) == v for k, v in seen.items()), "a finished cell was lost or made again"
    unfinished += len(now) < len(plan)
    seen = now
    if len(now) == len(plan): break
for pid in [worker(), worker()]: assert os.waitpid(pid, 0)[1] == 0
now = stored()
assert all(now[k] == v for k, v in seen.items())
assert store.cells() == sorted(plan) and len(store.rows()) == len(plan)
for row in store.rows(): assert store.predictions(row.cell).digest() == row.predictions
assert benchmark.Claims(folder).held() == []
log = Path(f"{folder}.log").read_text().split()
assert len(log) == len(set(log)), "a cell was done twice"
print(kills, unfinished, len(log))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twenty_kills_lose_no_cell_and_repeat_none(pack, tmp_path):
    done = subprocess.run([sys.executable, "-c", NURSERY, str(pack), str(tmp_path / "results")], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    kills, unfinished, _ = map(int, done.stdout.split())
    assert kills >= 20 and unfinished >= 5, done.stdout  # the kills hit work in progress


def test_the_worker_needs_only_torch_and_numpy(pack, tmp_path):
    code = """
import sys
for name in ("pandas", "pymatgen", "sklearn", "scipy", "matplotlib", "seaborn", "fastcore", "safetensors", "pyarrow", "tqdm", "click"):
    sys.modules[name] = None
from lgdcnn.benchmark.__main__ import main
from lgdcnn.config import MODELS, PROTOCOLS
MODELS["lstm"] = MODELS["lstm"].replace(d_model=16)
PROTOCOLS["fast"] = PROTOCOLS["fast"].replace(epochs=1)
import lgdcnn.benchmark.plan
assert main(["run", "--dataset", "salts", "--model", "mean"]) == 2
assert "mean" not in lgdcnn.benchmark.plan.models() and len(lgdcnn.benchmark.plan.default_plan()) > 100
sys.exit(main(sys.argv[1:]))"""
    words = ["run", "--cell", "salts/lstm.fast.fold0.seed0", "--pack", str(pack), "--results", str(tmp_path / "r"), "--threads", "1"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1 run\n"), done.stderr
    assert "'mean' is no network, and baselines need scikit-learn" in done.stderr
    assert len(ResultStore(tmp_path / "r").rows()) == 1


def run(cell, data, machine):  # row, predictions for the test rows
    return runs.run_cell(runs.resolve(cell, lambda name: data), machine)[0][:2]


def test_a_repeated_cell_gives_the_same_number(tiny, pack, tmp_path):
    cell, store = Cell("salts", 1, "l-g-dcnn", "fast", 3), ResultStore(tmp_path / "r")
    rows = []
    for force in (False, True):
        benchmark.fill([cell], store, benchmark.loader(pack), CPU, force=force)
        rows.append(store.read(cell))
    assert rows[0].test == rows[1].test and rows[0].val == rows[1].val and rows[0].predictions == rows[1].predictions
    other = run(Cell("salts", 1, "l-g-dcnn", "fast", 4), tiny_set(), CPU)[0]
    assert other.test != rows[0].test


def test_validation_predictions_give_the_row_its_validation_error_and_multiples(tiny, pack, tmp_path):
    data, cell, store = tiny_set(), Cell("salts", 2, "gru", "fast", 0), ResultStore(tmp_path / "r")
    benchmark.fill([cell], store, benchmark.loader(pack), CPU)
    row, kept = store.read(cell), store.predictions(cell, "validation")
    y = data.target[kept.rows]
    assert (kept.rows == data.splits[2].val).all() and row.val["mae"] == np.abs(kept.mean - y).mean()
    assert row.multiples["0.8"] == np.sort(np.abs(kept.mean - y) / kept.std)[4]  # rank 4.8, of five rows


def test_the_row_says_what_was_done(tiny, pack, tmp_path):
    data, cell = tiny_set(), Cell("salts", 2, "gru", "fast", 0)
    row, predictions = run(cell, data, CPU)
    split = data.splits[2]
    assert row.cell == cell and (row.n_train, row.n_val, row.n_test) == (14, 5, 5)
    assert (predictions.rows == split.test).all() and predictions.std.min() > 0
    assert row.test["mae"] == np.abs(predictions.mean - data.target[split.test]).mean()
    n = data.compositions.n_elements[split.test]
    assert {int(k): v["n"] for k, v in row.test_by_elements.items()} == {k: (n == k).sum() for k in np.unique(n)}
    assert row.n_elements_train == data.compositions[split.train].n_elements.sum()
    assert row.model_digest == MODELS["gru"].digest() and row.protocol_digest == PROTOCOLS["fast"].digest()
    assert row.unit == "K" and row.epochs == 2 and row.n_parameters > 0 and len(row.source) == 10


def test_test_targets_and_validation_targets_do_not_reach_training(tiny):
    "Other targets outside the training rows, the same predictions."
    data = tiny_set()
    split = data.splits[0]
    spoilt = data.target.copy()
    spoilt[np.concatenate([split.test, split.val])] += 100
    other = ArraySet(data.name, data.property, data.unit, data.task, data.compositions, spoilt, data.splits, data.formulas)
    cells = [Cell("salts", 0, "lstm", "fast", 0), Cell("salts", 0, "random-forest", "none", 0)]
    for cell in cells:
        assert (run(cell, data, CPU)[1].mean == run(cell, other, CPU)[1].mean).all()


def test_classes(tiny):
    data, cell = tiny_set(task="classification"), Cell("salts", 0, "random-forest", "none", 0)
    row = run(cell, data, CPU)[0]
    assert set(row.test) == {"roc_auc", "balanced_accuracy", "accuracy", "roc_auc_hard"} and row.coverage == {}
    assert runs.impossible(Cell("matbench_glass", 0, "l-g-dcnn", "fast", 0)) == ""
    row, predictions = run(Cell("salts", 0, "lstm", "fast", 0), data, CPU)
    assert 0 <= predictions.mean.min() and predictions.mean.max() <= 1 and predictions.std is None


def test_the_budget_is_kept(tiny, pack, tmp_path):
    "A cell that would end too late is not begun; a cheaper one further down is."
    plan.baselines()  # imports scikit-learn, which must not count against the budget
    store, load = ResultStore(tmp_path / "r"), benchmark.loader(pack)
    dear, cheap = Cell("salts", 0, "lstm", "fast", 0), Cell("salts", 0, "mean", "none", 0)
    outcome = benchmark.fill([dear, cheap], store, load, CPU, budget=plan.projected_seconds(dear, [], "cpu")[0] * 0.99)
    assert [r.cell for r in outcome.done] == [cheap] and outcome.passed == {"too long for what is left": 1}


def test_a_network_that_outlasts_the_budget_is_put_aside_and_ends_the_same(tiny, pack, tmp_path, monkeypatch):
    "No time at all: each call does one epoch; the last one stores what an unbroken run stores."
    cell, load = Cell("salts", 0, "lstm", "fast", 0), benchmark.loader(pack)
    monkeypatch.setitem(PROTOCOLS, "fast", PROTOCOLS["fast"].replace(epochs=4))
    whole, store = ResultStore(tmp_path / "whole"), ResultStore(tmp_path / "parts")
    benchmark.fill([cell], whole, load, CPU)
    monkeypatch.setattr(benchmark, "run_cell", lambda *a: runs.run_cell(*a[:3], -math.inf))  # always too late
    outcomes = [str(benchmark.fill([cell], store, load, CPU, in_parts=True)) for _ in range(4)]
    assert outcomes == ["0 run; 1 put aside, to go on with"] * 3 + ["1 run"]
    assert store.read(cell).predictions == whole.read(cell).predictions and store.read(cell).epochs == 4
    assert not list(store.folder.glob("work/checkpoints/*/*"))


def test_a_family_is_learnt_by_one_network_and_gives_a_row_for_each(tiny, tmp_path, monkeypatch):
    "One training fills the cells of all siblings; a sibling with another split is refused and leaves nothing."
    from dataclasses import replace
    sets = {name: replace(tiny_set(), name=name, target=tiny_set().target * factor) for name, factor in (("a", 1), ("b", 10))}
    monkeypatch.setattr(plan, "FAMILIES", (("a", "b"),))
    store, cell = ResultStore(tmp_path / "r"), Cell("b", 1, plan.JOINT, "fast", 0)
    assert str(benchmark.fill([cell, replace(cell, dataset="a")], store, sets.__getitem__, CPU)) == "2 run; 1 done before"
    rows = store.rows()
    assert [r.dataset for r in rows] == ["a", "b"] and {r.joint for r in rows} == {("a", "b")}
    assert rows[0].n_parameters == rows[1].n_parameters > 0 and rows[0].predictions != rows[1].predictions
    for r in rows:
        p = store.predictions(r.cell)
        assert np.abs(p.mean - sets[r.dataset].target[p.rows]).mean() == pytest.approx(r.test["mae"])
    other = ResultStore(tmp_path / "other")
    benchmark.fill([replace(cell, dataset="a")], other, sets.__getitem__, CPU)
    assert [r.predictions for r in other.rows()] == [r.predictions for r in rows], "whichever sibling is asked for"
    write, written = ResultStore.write, []
    def die_after_the_first(self, row, predictions=None):
        if written: raise RuntimeError("killed")
        written.append(row.cell)
        write(self, row, predictions)
    with monkeypatch.context() as m:
        m.setattr(ResultStore, "write", die_after_the_first)
        benchmark.fill([replace(cell, fold=0)], store, sets.__getitem__, CPU)
    assert not store.has(replace(cell, fold=0)), "the cell that was asked for is written last"
    assert str(benchmark.fill([replace(cell, fold=0)], store, sets.__getitem__, CPU)) == "2 run"
    sets["a"] = replace(sets["a"], splits=sets["a"].splits[::-1])
    outcome = benchmark.fill([replace(cell, fold=0, seed=1)], store, sets.__getitem__, CPU)
    assert "would leak" in outcome.failed[0][1] and len(store.cells()) == 4


def test_a_submission_is_whole(tiny, tmp_path):
    "The form that matbench 0.6 reads, its hash, and scores that follow from the predictions."
    import gzip

    from lgdcnn.comparison.matbench import export, row_names, submission
    from lgdcnn.data.splits import matbench_splits
    rng, formulas = np.random.default_rng(0), [f"Fe{i + 1}C" for i in range(312)]
    y = rng.integers(0, 2, 312)
    data = ArraySet("matbench_steels", "class", "class", "classification", featurize(formulas), y,
                    matbench_splits(y, "classification"), formulas)
    store, load = ResultStore(tmp_path / "r"), lambda name: data
    cells = [Cell("matbench_steels", k, "random-forest", "none", 0) for k in range(5)]
    benchmark.fill(cells[:4], store, load, CPU)
    with pytest.raises(InputError, match="of all five folds"): submission(store, load, "random-forest", "none")
    benchmark.fill(cells, store, load, CPU)
    written = []
    for k in range(2):
        assert export(tmp_path / str(k), store, load, "random-forest", "none") == ["matbench_steels"]
        written.append((tmp_path / str(k) / "results.json.gz").read_bytes())
    assert written[0] == written[1]
    folds = json.loads(gzip.decompress(written[0]))["tasks"]["matbench_steels"]["results"]
    assert sorted(n for f in folds.values() for n in f["data"]) == row_names("matbench_steels", 312)
    from sklearn.metrics import f1_score
    for k, fold in enumerate(folds.values()):
        label = [v > 0.5 for v in fold["data"].values()]
        assert fold["scores"]["f1"] == pytest.approx(f1_score(y[data.splits[k].test], label))
        assert fold["scores"]["rocauc"] == pytest.approx(fold["scores"]["balanced_accuracy"]) and fold["uncertainty"] is None
    assert {"authors", "algorithm", "algorithm_long", "bibtex_refs", "notes", "requirements"} \
        <= set(json.loads((tmp_path / "0" / "info.json").read_text()))


def test_exported_intervals_are_the_calibrated_ones(tmp_path):
    "Errors five times as large as claimed: 95 % of the rows lie inside all the same; a run without multiples gets none."
    from lgdcnn.benchmark.runs import Fit, make_row
    from lgdcnn.comparison.matbench import export, submission
    from lgdcnn.data.splits import matbench_splits
    from lgdcnn.trust.conformal import laplace_multiple
    rng, y = np.random.default_rng(0), np.linspace(1000, 3000, 912)
    formulas = [f"Fe{i + 1}C" for i in range(912)]
    data = ArraySet("matbench_steels", "strength", "MPa", "regression", featurize(formulas), y, matbench_splits(y), formulas)
    store, load, told = ResultStore(tmp_path / "r"), lambda name: data, []
    answer = lambda rows: (y[rows] + rng.laplace(0, 500 / 2 ** 0.5, len(rows)), np.full(len(rows), 100.0))
    rows = []
    for k, split in enumerate(data.splits):
        fit = Fit(answer(split.val), answer(split.test), 0.0)
        test, validation = Predictions(split.test, *fit.test).rounded(), Predictions(split.val, *fit.val).rounded()
        rows.append(make_row(Cell("matbench_steels", k, "mean", "none", 0), data, CPU, fit, test, validation))
        store.write(rows[-1], test, validation)
    folds = submission(store, load, "mean", "none")["tasks"]["matbench_steels"]["results"]
    ends = {int(name[-3:]) - 1: u for fold in folds.values() for name, u in fold["uncertainty"].items()}
    inside = np.mean([u["ci_lower"] <= y[i] <= u["ci_upper"] for i, u in ends.items()])
    assert len(ends) == 912 and abs(inside - 0.95) < 4 * np.sqrt(0.95 * 0.05 * (1 / 912 + 1 / 365))
    for k, row in enumerate(rows):
        u = next(iter(folds[f"fold_{k}"]["uncertainty"].values()))
        assert (u["ci_upper"] - u["ci_lower"]) / 2 == pytest.approx(row.multiples["0.95"] * 100)
        assert u["std"] == pytest.approx(row.multiples["0.9"] / laplace_multiple(0.9) * 100) and 350 < u["std"] < 700
    p = store.predictions(rows[2].cell), store.predictions(rows[2].cell, "validation")
    store.write(replace(rows[2], multiples={}), *p)  # as runs of before 26 November 2026 are
    export(tmp_path / "out", store, load, "mean", "none", note=told.append)
    again = submission(store, load, "mean", "none")["tasks"]["matbench_steels"]["results"]
    assert again["fold_2"]["uncertainty"] is None and again["fold_1"] == folds["fold_1"]
    notes = json.loads((tmp_path / "out" / "info.json").read_text())
    assert "No uncertainty for matbench_steels" in told[0] and told[0] in notes["notes"]
    assert "a tenth of the compositions" not in notes["algorithm_long"]


def test_claimed_cells_are_left_alone(pack, tmp_path):
    store, cell = ResultStore(tmp_path / "r"), Cell("salts", 0, "mean", "none", 0)
    claims = benchmark.Claims(store.folder)
    assert claims.take(cell)
    assert str(benchmark.fill([cell], store, benchmark.loader(pack), CPU)) == "0 run; 1 in work elsewhere"
    assert runs.status([cell], store)[0]["state"] == "in work"
    claims.release(cell)
    assert len(benchmark.fill([cell], store, benchmark.loader(pack), CPU).done) == 1
    assert (store.folder / "work" / ".gitignore").read_text() == "*\n"


def test_large_predictions_are_kept_for_the_main_network_only(tiny, pack, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "KEEP_BELOW", 4)
    store, load = ResultStore(tmp_path / "r"), benchmark.loader(pack)
    cells = [Cell("salts", 0, m, p, 0) for m, p in (("l-g-dcnn", "fast"), ("mean", "none"))]
    benchmark.fill(cells, store, load, CPU)
    assert [bool(store.read(c).predictions) for c in cells] == [True, False]
    benchmark.fill(cells, store, load, CPU, force=True, keep="all")
    assert all(store.read(c).predictions for c in cells)
    assert all(abs(a - b) < 1e-9 for _, a, b in against.recompute(store, load))


def test_the_default_plan_is_what_was_promised():
    cells = plan.default_plan()
    main = [c for c in cells if c.model == "l-g-dcnn" and c.seed == 0]
    first = {d: next(c.protocol for c in cells if c.model == "l-g-dcnn" and c.dataset == d) for d in plan.by_size()}
    begins = cells[:18 + 10 * 5]  # the 28 regression sets once, before anything else
    assert set(begins) <= set(main) and {c.dataset for c in begins} == set(plan.by_size())
    assert {d for d, p in first.items() if p == "fast"} == set(plan.by_size(below=plan.SMALL))
    assert set(first.values()) == {"fast", "brief"}
    assert {c.dataset for c in main if c.protocol == "fast"} >= set(plan.by_size())  # the large ones in the end as well
    assert len({c.dataset for c in main}) == 31
    for model in plan.ABLATIONS: assert model in MODELS and {c.dataset for c in cells if c.model == model} == set(plan.ABLATION_SETS)
    for c in cells: assert runs.impossible(c) == ""


def hand_made(dataset, model, fold, seed, mae, task="regression"):
    name = table.METRIC[task]
    return SimpleNamespace(dataset=dataset, model=model, protocol="fast", fold=fold, seed=seed, task=task, unit="K",
                           test={name: mae}, test_without_pure={name: mae})


def test_the_table_by_hand():
    rows = [hand_made("matbench_steels", "l-g-dcnn", f, s, 90 + f + s) for f in range(5) for s in (0, 2)]
    rows += [hand_made("matbench_steels", "gru", f, 0, 70) for f in range(4)]  # better, but a fold is missing
    rows += [hand_made("mp_bulk_modulus", "l-g-dcnn", 0, s, m) for s, m in enumerate((10.0, 11.0, 12.0))]
    rows += [hand_made("matbench_glass", m, f, 0, v, "classification") for f in range(5) for m, v in (("a", 0.8), ("b", 0.9))]
    found = {(r["dataset"], r["model"]): r for r in table.comparison(rows)}
    steels, bulk = found["matbench_steels", "l-g-dcnn"], found["mp_bulk_modulus", "l-g-dcnn"]
    assert (steels["mae"], steels["n_runs"], steels["folds"], steels["winner"]) == (93.0, 10, 5, "")  # no other is whole
    assert steels["mae_std"] == pytest.approx(math.sqrt(2.5)) and steels["spread_over"] == "folds"
    assert (bulk["mae"], bulk["mae_std"], bulk["spread_over"]) == (11.0, 1.0, "seeds")
    assert (bulk["published_lgdcnn"], bulk["published_best"]) == (10.612, 10.612)
    assert found["matbench_steels", "gru"]["winner"] == "" and found["matbench_glass", "b"]["winner"] == "*"
    assert found["matbench_glass", "a"]["mae"] is None
    assert "2 of 28 sets filled (2 fast): test MAE below the paper's L-G-DCNN on 0 of 2" in table.verdict(list(found.values()))


def test_peers_are_compared_by_the_same_protocol(tiny):
    data = tiny_set(n_folds=1)
    name, where = data.name, data.splits[0].test
    def run(model, protocol):
        cell = Cell(name, 0, model, protocol, 0)
        return SimpleNamespace(**vars(cell), cell=cell, task="regression", predictions="some")
    def compared(*rows, **chosen):
        store = SimpleNamespace(rows=lambda: list(rows), predictions=lambda cell: Predictions(where, np.zeros(len(where))))
        return against.against(store, lambda name: data, "gru", **chosen)
    ours, theirs = run("l-g-dcnn", "brief"), [run("gru", p) for p in ("fast", "brief")]
    with pytest.raises(InputError, match="no stored predictions"): compared(ours, theirs[0])
    assert len(compared(ours, *theirs)) == 1 and compared(ours, *theirs)[0]["difference"] == 0
    assert len(compared(ours, run("gru", "none"))) == 1


def test_published_numbers_stand_apart():
    from lgdcnn.data.published import package_table
    from lgdcnn.data.published import published as published_numbers
    published = published_numbers()
    assert published["OQMD_Formation_Enthalpy"] == {"lgdcnn": 0.033, "crabnet": 0.0311481, "roost": 0.0315259,
                                                    "best": 0.0310082, "best_model": "HotCrab"}
    assert published["matbench_expt_gap"]["best"] == 0.2865 and published["matbench_steels"]["lgdcnn"] == 92.359
    assert all(r["source"] for name in ("published_mae.csv", "matbench_best.csv") for r in package_table(name))


def test_bootstrap_against_known_values():
    rng = np.random.default_rng(3)
    d = rng.normal(-0.2, 1.0, 4000)
    found = paired.paired_bootstrap(d)
    assert found["difference"] == pytest.approx(d.mean())
    assert (found["high"] - found["low"]) == pytest.approx(2 * 1.96 * d.std() / math.sqrt(4000), rel=0.06)
    assert found == paired.paired_bootstrap(d) != paired.paired_bootstrap(d, seed=1)
    none = paired.paired_bootstrap(np.tile([1.0, -1.0], 500))
    assert none["low"] < 0 < none["high"] and none["p"] > 0.4


def test_commands_from_start_to_table(pack, tmp_path):
    where = ["--results", str(tmp_path / "r")]
    say = lambda *words: CliRunner().invoke(commands, [*words, *where])
    guess = ["--cell", "salts/mean.none.fold0.seed0", "--cell", "salts/random-forest.none.fold0.seed0", "--pack", str(pack)]
    assert say("run", *guess, "--budget", "9m").stdout == "2 run\n"
    assert say("run", *guess).stdout == "0 run; 2 done before\n"
    lines = list(csv.DictReader(say("table", "--format", "csv").stdout.splitlines()))
    assert {"dataset", "model", "n_runs", "mae", "mae_std", "published_lgdcnn", "published_best"} <= set(lines[0])
    assert sum(int(line["n_runs"]) == 0 for line in lines) == 31, "what nobody has run stays visibly empty"
    for line in lines:
        if line["n_runs"] == "0":
            assert line["mae"] == "" and float(line["projected_seconds"]) > 0
            continue
        listed = json.loads(say("predictions", "salts", "--model", line["model"], "--pack", str(pack), "--format", "json").stdout)
        assert np.mean([abs(r["target"] - r["prediction"]) for r in listed]) == pytest.approx(float(line["mae"]), abs=1e-12)
        assert {r["formula"] for r in listed} == {FORMULAS[i] for i in tiny_set().splits[0].test}
    command = runs.rerun_command(Cell("salts", 0, "mean", "none", 0), ResultStore(tmp_path / "r").rows()[0])
    before = ResultStore(tmp_path / "r").rows()[0]
    assert say(*command.split()[2:], "--pack", str(pack)).stdout == "1 run\n"
    assert ResultStore(tmp_path / "r").rows()[0].test == before.test


@pytest.mark.parametrize("words, why", [
    (["run", "--dataset", "nothing*"], "no cell fits"), (["run", "--budget", "soon"], "is no time"),
    (["run", "--cell", "x"], "names no benchmark cell"), (["run", "--threads", "0", "--dataset", "mp_*"], "at least 1"),
    (["predictions", "mp_mu_b"], "no predictions of l-g-dcnn"), (["merge", "nowhere"], "no folder of results"),
    (["table", "--against", "gru"], "no stored predictions")])
def test_bad_input_is_named(tmp_path, words, why):
    result = CliRunner().invoke(commands, [*words, "--results", str(tmp_path)])
    assert isinstance(result.exception, InputError) and why in str(result.exception)
