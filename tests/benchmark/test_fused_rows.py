"Rows fused from stored predictions: who is a member, what weights may know, and that a row can be made again."
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import brentq

from lgdcnn.benchmark.results import Cell, Predictions, RunRow
from lgdcnn.benchmark.runs import Fit, make_row
from lgdcnn.benchmark.store import ResultStore
from lgdcnn.cli import main
from lgdcnn.comparison.fused_rows import (
    differences,
    forget,
    fuse,
    fuse_fold,
    gate_path,
    halves,
    likeliest,
    members,
    plan_set,
    stored_gate,
)
from lgdcnn.comparison.table import comparison, verdict
from lgdcnn.composition import featurize
from lgdcnn.config import InputError
from lgdcnn.data.packing import ArraySet
from lgdcnn.data.splits import Split
from lgdcnn.fusion.mixture import member_spread
from lgdcnn.training.device import Machine

NETWORK, TREE = "l-g-dcnn", "trees-l1"


def toy(n=600, folds=2, zeros=0.0, task="regression"):
    "Formulas with drawn targets; each fold is tested on other rows, and validates on test rows of the next."
    rng = np.random.default_rng(7)
    formulas = [f"{a}{i}{b}" for i in range(1, 16) for a in ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Ba")
                for b in ("F", "Cl", "Br", "I", "O")][:n]
    y = rng.normal(size=n) + 2
    if zeros: y = np.where(rng.uniform(size=n) < zeros, 0.0, np.abs(y) + 1)
    if task == "classification": y = (y > 2).astype(float)
    order = rng.permutation(np.arange(n) % (folds + 1))
    splits = [Split.from_parts(np.array([0, 1, 2])[np.where(order == k, 2, np.where(order == (k + 1) % folds, 1, 0))])
              for k in range(folds)]
    return ArraySet("toy", "energy", "eV", task, featurize(formulas), y, splits, formulas)


def pretend(store, data, model, seed, error, fold=0):
    "Store a run whose errors are drawn; trees claim no spread."
    rng, tree = np.random.default_rng([seed, fold, *map(ord, model)]), model.startswith("trees")

    def answer(rows):
        if data.task == "classification":
            return np.clip(np.abs(data.target[rows] - rng.uniform(0, error, size=len(rows))), 0.01, 0.99), None
        noise = rng.laplace(size=len(rows)) / np.sqrt(2)
        return data.target[rows] + error * noise, None if tree else np.full(len(rows), error)
    split = data.splits[fold]
    fit = Fit(answer(split.val), answer(split.test), 10.0, n_parameters=0 if tree else 7)
    parts = Predictions(split.test, *fit.test).rounded(), Predictions(split.val, *fit.val).rounded()
    row = make_row(Cell(data.name, fold, model, "none" if tree else "fast", seed), data, Machine.choose("cpu", "fp32"), fit, *parts)
    store.write(row, *parts)


@pytest.fixture
def data(): return toy()


@pytest.fixture
def store(tmp_path, data):
    store = ResultStore(tmp_path / "benchmark")
    for fold in (0, 1):
        pretend(store, data, NETWORK, 0, 0.5, fold)
        pretend(store, data, NETWORK, 1, 0.6, fold)
        pretend(store, data, TREE, 0, 0.4, fold)
    return store


def made(store, data, fold=0, **how): return fuse_fold(store, data, fold, members(store.rows(), data.name, fold), **how)


def test_a_fused_row_is_what_its_members_say(store, data):
    "Recomputed from files and formulas alone: kinds averaged, widths from validation errors, median of the mixture."
    row, test, _ = made(store, data)
    y, kinds = data.target[data.splits[0].val], {}
    for name in row.members: kinds.setdefault(name.split(".")[0], []).append(name)
    parts = []
    for names in kinds.values():
        said = {part: [store.predictions(Cell.from_id(f"toy/{n}"), part) for n in names] for part in ("test", "validation")}
        mean = {p: np.mean([s.mean for s in ss], 0) for p, ss in said.items()}
        std = {p: np.ones(len(mean[p])) if ss[0].std is None else
               np.sqrt(np.mean([s.std ** 2 + s.mean ** 2 for s in ss], 0) - mean[p] ** 2) for p, ss in said.items()}
        width = member_spread(y, mean["validation"], std["validation"])
        parts.append((sum(row.members[n] for n in names), mean["test"], width * std["test"]))

    def share_below(x, i):  # of Laplace distributions
        z = [(w, np.sqrt(2) * (x - m[i]) / s[i]) for w, m, s in parts]
        return sum(w * (0.5 * np.exp(v) if v < 0 else 1 - 0.5 * np.exp(-v)) for w, v in z)
    medians = [brentq(lambda x, i=i: share_below(x, i) - 0.5, -20, 20, xtol=1e-12) for i in range(len(test.mean))]
    assert np.allclose(test.mean, medians, atol=2e-5)
    assert np.isclose(row.test["mae"], np.abs(test.mean - data.target[test.rows]).mean(), rtol=1e-12)
    assert np.isclose(sum(row.members.values()), 1)
    assert row.seconds == 30.0 and row.n_parameters == 14 and row.model == "fused" and row.protocol == "none"


def test_the_fused_error_is_below_that_of_every_member(store, data):
    row, *_ = made(store, data)
    assert row.test["mae"] < min(r.test["mae"] for r in store.rows() if r.fold == 0)


def test_weights_do_not_know_the_test_targets(store, data):
    "Other targets in the test rows change the score of the row, never its weights, predictions or widths."
    row, test, val = made(store, data)
    y = data.target.copy()
    y[data.splits[0].test] += np.random.default_rng(3).normal(size=len(data.splits[0].test)) * 50
    other, test2, val2 = made(store, replace(data, target=y))
    assert other.members == row.members and other.multiples == row.multiples
    assert np.array_equal(test.mean, test2.mean) and np.array_equal(test.std, test2.std)
    assert np.array_equal(val.mean, val2.mean) and other.val == row.val
    assert other.test != row.test


def test_weights_do_not_know_other_folds(store, data):
    "Fold 1 is forgotten, and fold 0 stays as it was: its test rows are the other's validation rows."
    assert set(data.splits[0].test) == set(data.splits[1].val)
    row, *_ = made(store, data)
    forget(store, "toy", set())
    for r in store.rows():
        if r.fold == 1: store.row_path(r.cell).unlink()
    assert made(store, data)[0].members == row.members


def test_pooled_folds_are_refused(store, data):
    groups = members(store.rows(), "toy", 1)
    with pytest.raises(InputError, match="other rows than those of its fold"): fuse_fold(store, data, 0, groups)
    row, *_ = made(store, data)
    pooled = dict.fromkeys([NETWORK + ".fast.fold0.seed0", NETWORK + ".fast.fold1.seed0"], 0.5)
    with pytest.raises(InputError, match="a run of fold 0"): replace(row, members=pooled)


def test_runs_without_validation_predictions_are_no_members(store, data):
    cell = Cell("toy", 0, TREE, "none", 0)
    row, test = store.read(cell), store.predictions(cell)
    store.write(replace(row, validation=""), test)
    assert list(members(store.rows(), "toy", 0)) == [NETWORK + ".fast"]
    assert plan_set(store.rows(), data, "fused") == []  # fold 1 alone makes no row of the set


def test_a_small_set_is_fused_twice_of_disjoint_seeds(store, data):
    for fold in (0, 1): pretend(store, data, TREE, 1, 0.4, fold)
    plan = plan_set(store.rows(), data, "fused")
    assert [(fold, seed) for fold, seed, _ in plan] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    names = [{r.cell for g in groups.values() for r in g} for _, _, groups in plan]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 4
    assert len(halves(plan[0][2], "fused", 5000)) == 1  # not above 2,000 rows
    assert len(plan_set(store.rows(), data, "ensemble")) == 2  # two seeds make one ensemble


def test_all_rows_are_made_kept_and_made_again(store, data):
    rows = fuse(store, lambda name: data)
    assert {(r.model, r.fold) for r in rows} == {(b, k) for b in ("fused", "ensemble") for k in (0, 1)}
    text = {r.cell: store.row_path(r.cell).read_text() for r in rows}
    fuse(store, lambda name: data)
    assert text == {r.cell: store.row_path(r.cell).read_text() for r in rows}
    assert max(d for _, d in differences(store, lambda name: data)) < 1e-5
    row = next(r for r in rows if r.model == "fused")
    turned = dict(zip(row.members, list(row.members.values())[::-1], strict=True))
    store.row_path(row.cell).write_text(replace(row, members=turned).to_json())
    assert max(d for _, d in differences(store, lambda name: data)) > 1e-3  # wrong weights are found out
    with pytest.raises(InputError, match="add to 1"): replace(row, members={k: v / 2 for k, v in row.members.items()})


def test_what_the_pretrained_network_was_shown_teaches_no_weights(tmp_path, monkeypatch):
    "A member that knows some validation targets by heart: they are left out, and it gets the weight that the others earn it."
    from lgdcnn.properties import transfer
    data, store = toy(), ResultStore(tmp_path / "benchmark")
    data = replace(data, splits=data.splits[:1])
    known = data.splits[0].val[::2]
    monkeypatch.setattr(transfer, "unshown", lambda data, fold, load: np.setdiff1d(data.splits[fold].val, known))
    for model, error in ((NETWORK, 0.5), (TREE, 0.5)): pretend(store, data, model, 0, error)
    assert {r.model for r in fuse(store, lambda name: data)} == {"fused"}  # it would be the same again
    rng, split = np.random.default_rng(5), data.splits[0]
    answer = lambda rows: (data.target[rows] + np.where(np.isin(rows, known), 0, 2.0) * rng.normal(size=len(rows)), None)
    fit = Fit(answer(split.val), answer(split.test), 1.0)
    parts = [Predictions(rows, *a).rounded() for rows, a in ((split.test, fit.test), (split.val, fit.val))]
    store.write(make_row(Cell("toy", 0, "pretrained", "none", 0), data, Machine.choose("cpu", "fp32"), fit, *parts), *parts)
    rows = {r.model: r for r in fuse(store, lambda name: data)}
    assert set(rows) == {"fused", "fused-transfer"} and "pretrained.none.fold0.seed0" not in rows["fused"].members
    row = rows["fused-transfer"]
    assert row.members["pretrained.none.fold0.seed0"] < 0.1
    assert row.n_val == len(split.val) - len(known) and row.n_test == len(split.test)
    assert max(d for _, d in differences(store, lambda name: data)) < 1e-5


def test_a_damaged_blend_says_how_it_is_made_again(store, data):
    row = fuse(store, lambda name: data)[0]
    store.predictions_path(row.cell).write_bytes(gzip.compress(b"row,prediction,std\n1,2,3\n"))
    with pytest.raises(InputError, match="lgdcnn benchmark fuse --dataset toy"): store.predictions(row.cell)


def test_intervals_hold_what_they_promise(tmp_path):
    "400 validation and 200 test rows: nine of ten are inside, within three standard errors of both counts."
    data, found = toy(600, folds=2), []
    for seed in range(6):
        store = ResultStore(tmp_path / str(seed))
        for model, error in ((NETWORK, 0.5), (TREE, 0.4)): pretend(store, data, model, seed, error)
        found.append(made(store, data)[0].coverage["0.9"])
    n_val, n_test = len(data.splits[0].val), 6 * len(data.splits[0].test)
    assert abs(np.mean(found) - 0.9) < 3 * np.sqrt(0.09 * (1 / n_test + 1 / (6 * n_val)))


def test_a_gate_is_used_where_it_helps_and_is_part_of_the_row(tmp_path):
    data = toy(zeros=0.5)
    store = ResultStore(tmp_path)
    for model in (NETWORK, TREE): pretend(store, data, model, 0, 0.5)
    split, rng = data.splits[0], np.random.default_rng(0)
    rows = np.concatenate([split.val, split.test])
    for knows, opened in ((True, True), (False, False)):
        chance = np.where(data.target[rows] == 0, 0.95, 0.05) if knows else rng.uniform(0.4, 0.6, size=len(rows))
        row, test, _ = made(store, data, zero=Predictions(rows, chance).rounded())
        assert bool(row.gate) == opened
        if knows: assert (test.mean[data.target[split.test] == 0] == 0).all()
    path = gate_path(store, "toy", 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(Predictions(rows, np.where(data.target[rows] == 0, 0.95, 0.05)).to_text().encode()))
    row, *parts = made(store, data, zero=stored_gate(store, data, 0))
    store.write(row, *parts)
    assert max(d for _, d in differences(store, lambda name: data)) < 1e-5
    path.write_bytes(gzip.compress(Predictions(rows, np.full(len(rows), 0.5)).to_text().encode()))
    with pytest.raises(InputError, match="gate"): list(differences(store, lambda name: data))


def test_classes_are_weighed_by_log_loss(tmp_path):
    data, store = toy(task="classification"), ResultStore(tmp_path)
    for model, error in ((NETWORK, 0.9), (TREE, 0.3)): pretend(store, data, model, 0, error)
    row, test, _ = made(store, data)
    weight = {k.split(".")[0]: v for k, v in row.members.items()}
    assert weight[TREE] > 0.8 and row.task == "classification" and row.coverage == {}
    assert ((0 < test.mean) & (test.mean < 1)).all() and test.std is None
    with np.errstate(all="raise"):
        assert np.allclose(likeliest(np.zeros(3), np.array([[0.0] * 3, [1.0] * 3])), [5 / 7, 2 / 7], atol=1e-3)


def test_the_command_and_the_verdict(store, data, monkeypatch):
    monkeypatch.setattr("lgdcnn.benchmark.worker.loader", lambda pack=None: lambda name: data)
    said = CliRunner().invoke(main, ["benchmark", "fuse", "--results", str(store.folder)])
    assert said.exit_code == 0 and "4 rows of 1 data sets" in said.output
    said = CliRunner().invoke(main, ["benchmark", "fuse", "--dataset", "other*", "--results", str(store.folder)])
    assert "nothing to fuse" in said.output
    steels = [replace(r, dataset="matbench_steels", members={}) for r in store.rows() if r.model == "fused"]
    assert "fused, 0 of 28 sets filled" in verdict(comparison(steels), "fused", "none")  # three folds are missing
    five = [replace(steels[0], fold=k, test=steels[0].test | {"mae": 80.0 + k}) for k in range(5)]
    text = verdict(comparison(five), "fused", "none")
    assert "fused, 1 of 28 sets filled: test MAE below the paper's L-G-DCNN on 1 of 1" in text
    assert "below the best published composition-only value on 0 of 1" in text


def test_rows_of_before_have_no_members_and_stay_readable(root):
    path = next((root / "results" / "benchmark" / "runs" / "matbench_steels").glob("l-g-dcnn.fast.*"))
    old = json.loads(path.read_text())
    row = RunRow.from_dict({k: v for k, v in old.items() if k not in ("members", "gate")})
    assert row.members == {} and row.gate == ""
