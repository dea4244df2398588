"Rows are whole, true to their predictions, refused when they are not, and merge without loss."
import dataclasses
import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgdcnn.benchmark.results import Cell, Predictions, RunRow
from lgdcnn.benchmark.store import ResultStore, merge
from lgdcnn.comparison.against import recompute
from lgdcnn.comparison.table import METRIC
from lgdcnn.config import InputError, repo_root
from lgdcnn.training.metrics import metrics, roc_auc
from lgdcnn.trust.conformal import calibrated_coverage, calibrated_multiples

ROW = dict(dataset="mp_bulk_modulus", fold=0, model="lstm", protocol="fast", seed=0, task="regression", unit="GPa",
           model_digest="0123456789", protocol_digest="9876543210", n_train=70, n_val=15, n_test=15,
           n_elements_train=200, epochs=60, val={"mae": 11.0}, test={"mae": 10.0, "rmse": 15.0, "r2": -0.5},
           test_without_pure={"mae": 10.5}, test_by_elements={"2": {"n": 15, "mae": 10.0}}, coverage={"0.9": 0.91},
           n_parameters=1000, seconds=3.5, device="cpu", threads=1, precision="fp32", predictions="",
           version="0.1.0", source="abc", commit="", torch="2.13.0", numpy="2.4.6", finished="2026-11-22T20:15:00+00:00")


def predictions(n=5, shift=0.0):
    return Predictions(np.arange(n), np.linspace(0, 1, n) + shift, np.full(n, 0.1)).rounded()


@pytest.mark.parametrize("change, why", [
    ({"fold": -1}, "at least 0"), ({"fold": 1.0}, "of type int"), ({"seed": True}, "of type int"),
    ({"dataset": "../up"}, "no possible name"), ({"model": "a/b"}, "no possible name"), ({"model": "a.b"}, "no possible name"),
    ({"n_test": 0}, "at least 1"), ({"epochs": 0}, "at least 1"), ({"threads": 0}, "at least 1"),
    ({"seconds": float("nan")}, "zero or positive"), ({"seconds": -1.0}, "zero or positive"), ({"precision": "fp16"}, "fp32 or bf16"),
    ({"task": "ranking"}, "unknown task"), ({"val": {"accuracy": 0.5}}, "some of mae"), ({"test": {"mae": 1.0}}, "exactly"),
    ({"test": {"mae": float("inf"), "rmse": 1.0, "r2": 0.5}}, "finite"), ({"test": {"mae": -1.0, "rmse": 1.0, "r2": 0.5}}, "range"),
    ({"test_by_elements": {"2": {"n": 1, "mae": None}}}, "finite"), ({"coverage": {"0.9": 1.1}}, "shares"),
    ({"coverage": {"90": 0.5}}, "shares"), ({"multiples": {"0.9": -1.0}}, "positive"), ({"multiples": {"0.9": float("inf")}}, "finite"), ({"finished": "yesterday"}, "a time like"), ({"unit": None}, "of type str"),
    ({"task": "classification", "val": {}, "test_without_pure": {}, "test_by_elements": {},
      "test": {"roc_auc": 1.5, "balanced_accuracy": 0.5, "accuracy": 0.5, "roc_auc_hard": 0.5}}, "range")])
def test_a_row_that_cannot_be_is_refused(change, why):
    with pytest.raises(InputError, match=why): RunRow(**ROW | change)


@pytest.mark.parametrize("spoil, why", [
    (lambda d: d.pop("n_val"), "lacks n_val"), (lambda d: d.update(colour=1), "unknown fields colour"),
    (lambda d: d.update(schema=99), "update lgdcnn"), (lambda d: d.pop("schema"), "update lgdcnn")])
def test_a_file_of_another_form_is_refused_by_its_path(tmp_path, spoil, why):
    store, d = ResultStore(tmp_path), json.loads(RunRow(**ROW).to_json())
    store.write(RunRow(**ROW))
    spoil(d)
    store.row_path(RunRow(**ROW).cell).write_text(json.dumps(d))
    with pytest.raises(InputError, match=why) as e: store.read(RunRow(**ROW).cell)
    assert "fold0.seed0.json" in str(e.value)
    with pytest.warns(UserWarning, match=why): assert store.rows() == []
    assert store.has(RunRow(**ROW).cell), "it may be of a newer version: nothing runs over it unasked"


def test_a_row_under_a_wrong_name_or_cut_short_is_refused(tmp_path):
    store, row = ResultStore(tmp_path), RunRow(**ROW)
    store.write(row)
    path = store.row_path(row.cell)
    path.rename(path.with_name("lstm.fast.fold0.seed7.json"))
    cell = Cell.from_id("mp_bulk_modulus/lstm.fast.fold0.seed7")
    with pytest.raises(InputError, match="holds the row of"): store.read(cell)
    path.with_name("lstm.fast.fold0.seed7.json").write_text(row.to_json()[:100])
    with pytest.raises(InputError, match="is damaged"): store.read(cell)


def test_what_is_no_row_is_named_with_its_remedy_and_stops_nothing(tmp_path):
    store, row = ResultStore(tmp_path), RunRow(**ROW)
    store.write(row)
    folder = store.row_path(row.cell).parent
    spoiled = {"lstm.fast.fold0.seed1": "", "lstm.fast.fold0.seed2": "[1]", "lstm.fast.fold0.seed3": "not json",
               "lstm.fast.fold0.seed4": "[" * 100_000, "notes": "{}", "a copy of lstm.fast.fold0.seed0": row.to_json()}
    for name, text in spoiled.items(): (folder / f"{name}.json").write_text(text)
    (folder / "lstm.fast.fold0.seed5.json").write_bytes(b"\xff\xfe")
    with pytest.warns(UserWarning, match="^left out: ") as notes: assert store.rows() == [row]
    told = [str(n.message) for n in notes]
    with pytest.warns(UserWarning): assert store.cells() == [row.cell]
    assert len(told) == 7 and all("\n" not in t and len(t) < 500 for t in told)
    assert sum("--force" in t for t in told) == 4 and sum("move it elsewhere" in t for t in told) == 2
    for seed in (1, 3, 5): assert not store.has(Cell("mp_bulk_modulus", 0, "lstm", "fast", seed)), "the next run mends it"
    store.write(RunRow(**ROW | {"seed": 1}))
    assert store.read(Cell("mp_bulk_modulus", 0, "lstm", "fast", 1)).seed == 1


def test_a_forged_file_of_predictions_is_not_shown_as_true(tmp_path):
    store, p = ResultStore(tmp_path), predictions()
    row = RunRow(**ROW | {"predictions": p.digest(), "validation": p.digest()})
    store.write(row, p, p)
    assert store.predictions(row.cell).digest() == p.digest()
    for part in ("test", "validation"):
        store.predictions_path(row.cell, part).write_bytes(gzip.compress(predictions(shift=0.1).to_text().encode()))
        with pytest.raises(InputError, match=f"the {part} predictions of .* are not those of its row: run `lgdcnn benchmark run --cell .* --force`"):
            store.predictions(row.cell, part)
    store.row_path(row.cell).unlink()
    with pytest.raises(InputError, match="has not been run"): store.predictions(row.cell)


def test_runs_of_different_code_are_marked(tmp_path):
    from lgdcnn.comparison.render import render
    from lgdcnn.comparison.table import comparison
    rows = [RunRow(**ROW | {"seed": seed, "source": source}) for seed, source in enumerate(("abc", "abc", "def"))]
    assert [r["code"] for r in comparison(rows[:2])] == [""] and [r["code"] for r in comparison(rows)] == ["mixed"]
    assert "3, mixed code" in render(comparison(rows)) and "mixed" not in render(comparison(rows[:2]))
    a, b = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b")
    a.write(rows[0])
    b.write(rows[2])
    with pytest.warns(UserWarning, match="different code stand side by side in mp_bulk_modulus.lstm.fast"): merge(a, b)


def test_merging_mends_what_is_damaged_here_and_refuses_what_is_damaged_there(tmp_path):
    a, b, row = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b"), RunRow(**ROW)
    for store in (a, b): store.write(row)
    a.row_path(row.cell).write_text("")
    assert merge(a, b)["added"] == [row.cell] and a.read(row.cell) == row
    b.row_path(row.cell).write_text("")
    with pytest.raises(InputError, match="it is empty"): merge(a, b)


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_+()-]{0,20}", fullmatch=True)


@given(_names, st.integers(0, 99), _names, _names, st.integers(0, 10**6))
def test_cells_and_their_names_are_one_to_one(dataset, fold, model, protocol, seed):
    cell = Cell(dataset, fold, model, protocol, seed)
    assert Cell.from_id(cell.id) == cell


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e9, 1e9), st.floats(1e-12, 1e9)), max_size=30), st.booleans())
def test_predictions_survive_their_file_and_rounding_happens_once(values, with_std):
    rows, mean, std = (np.array(c) for c in zip(*values, strict=True)) if values else (np.zeros(0, int), np.zeros(0), np.zeros(0))
    once = Predictions(rows, mean, std if with_std else None).rounded()
    twice = once.rounded()
    assert np.allclose(once.mean, mean, rtol=5e-6, atol=0) and (once.rows == rows).all()
    assert once.to_text() == twice.to_text() and once.digest() == twice.digest()
    assert (once.std is not None) == with_std or not values


def test_files_are_the_same_bytes_every_time(tmp_path):
    p = predictions()
    row = RunRow(**ROW | {"predictions": p.digest()})
    files = []
    for k in range(2):
        store = ResultStore(tmp_path / str(k))
        store.write(row, p)
        files.append([f.read_bytes() for f in sorted(store.folder.rglob("*.*"))])
    assert files[0] == files[1] and len(files[0]) == 2


def test_the_row_is_written_last(tmp_path, monkeypatch):
    "What makes a cell done must not be there before its predictions are."
    import lgdcnn.benchmark.store as module
    order, write = [], module.write_atomic
    monkeypatch.setattr(module, "write_atomic", lambda path, content: (order.append(path.suffix), write(path, content)))
    p = predictions()
    ResultStore(tmp_path).write(RunRow(**ROW | {"predictions": p.digest()}), p)
    assert order == [".gz", ".json"]


def test_predictions_of_another_run_are_refused(tmp_path):
    store, row = ResultStore(tmp_path), RunRow(**ROW | {"predictions": predictions().digest()})
    with pytest.raises(InputError, match="are not those of"): store.write(row, predictions(shift=0.1))
    assert not store.has(row.cell)
    store.write(row, predictions())
    store.predictions_path(row.cell).write_bytes(gzip.compress(b"row,pred"))
    with pytest.raises(InputError, match="no predictions"): store.predictions(row.cell)
    store.predictions_path(row.cell).write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match="is damaged"): store.predictions(row.cell)


def test_merging_is_a_union_that_loses_nothing_and_repeats_without_effect(tmp_path):
    a, b = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b")
    for seed in (0, 1): a.write(RunRow(**ROW | {"seed": seed}))
    p = predictions()
    for seed in (1, 2): b.write(RunRow(**ROW | {"seed": seed, "predictions": p.digest()}), p)
    report = merge(a, b)
    assert [c.seed for c in report["added"]] == [2] and [c.seed for c in report["kept ours"]] == [1]
    assert [r.seed for r in a.rows()] == [0, 1, 2] and a.read(Cell("mp_bulk_modulus", 0, "lstm", "fast", 1)).predictions == ""
    again = merge(a, b)
    assert not again["added"] and [c.seed for c in again["equal"]] == [2]


def test_validation_predictions_are_kept_checked_and_merged(tmp_path):
    a, b, test, validation = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b"), predictions(), predictions(3, 0.5)
    row = RunRow(**ROW | {"predictions": test.digest(), "validation": validation.digest(), "multiples": {"0.9": 2.5}})
    with pytest.raises(InputError, match="promises validation predictions"): b.write(row, test)
    with pytest.raises(InputError, match="validation predictions are not those"): b.write(row, test, test)
    b.write(row, test, validation)
    merge(a, b)
    assert a.predictions(row.cell, "validation").digest() == row.validation and a.read(row.cell) == row
    b.predictions_path(row.cell, "validation").write_bytes(gzip.compress(test.to_text().encode(), mtime=0))
    with pytest.raises(InputError, match="validation predictions of .* are not those of its row"): merge(a, b)


def test_rows_of_before_have_no_validation_predictions_and_still_read(tmp_path):
    old = {k: v for k, v in json.loads(RunRow(**ROW).to_json()).items() if k not in ("validation", "multiples")}
    assert RunRow.from_dict(old) == RunRow(**ROW)


def test_merging_takes_all_or_nothing(tmp_path):
    a, b, p = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b"), predictions()
    b.write(RunRow(**ROW))
    b.write(RunRow(**ROW | {"seed": 1, "predictions": p.digest()}), p)
    b.predictions_path(Cell("mp_bulk_modulus", 0, "lstm", "fast", 1)).unlink()
    with pytest.raises(InputError, match="no test predictions"): merge(a, b)
    assert a.cells() == []


def test_roc_auc_agrees_with_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    rng = np.random.default_rng(0)
    for n in (5, 50, 500):
        y, score = np.append(rng.integers(0, 2, n - 2), [0, 1]), rng.integers(0, 10, n) / 10  # many ties
        m = metrics("classification", y, score)
        assert roc_auc(y, score) == pytest.approx(roc_auc_score(y, score))
        assert m["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, score > 0.5))
        assert m["roc_auc_hard"] == pytest.approx(roc_auc_score(y, score > 0.5))


def test_coverage_needs_enough_rows_and_uses_the_claimed_sigma():
    val = np.zeros(9), np.arange(1.0, 10.0), np.ones(9)
    test = np.zeros(4), np.array([1.0, 8.0, 9.0, 18.0]), np.array([1.0, 1.0, 1.0, 2.0])
    assert calibrated_coverage(val, test) == {"0.5": 0.25, "0.8": 0.5, "0.9": 1.0}  # ranks 5, 8, 9 of nine; no 95 %
    assert calibrated_multiples(*val) == {"0.5": 5.0, "0.8": 8.0, "0.9": 9.0}
    assert calibrated_coverage((*val[:2], None), (*test[:2], None))["0.9"] == 0.75  # without sigma the last lies outside


def committed():
    root = repo_root()
    return ResultStore(root / "results" / "benchmark") if root else None


def test_committed_rows_are_valid_and_small():
    store = committed()
    for row in store.rows():
        for part, promised in (("test", row.predictions), ("validation", row.validation)):
            assert store.predictions_path(row.cell, part).is_file() == bool(promised), row.cell.id
            if promised: store.predictions(row.cell, part)  # which refuses any but those
    size = sum(f.stat().st_size for part in ("runs", "predictions", "validation") for f in (store.folder / part).rglob("*") if f.is_file())
    assert size < 45e6, "a clone carries all of it: keep fewer predictions, or say here why more are worth it"


def test_rows_of_pretrained_models_rest_on_the_files_that_are_here():
    "Another network in the package, or beside the results, asks for these rows anew."
    from lgdcnn.benchmark.plan import TRANSFER
    from lgdcnn.properties.transfer import start_of
    rows = [r for r in committed().rows() if r.model in TRANSFER]
    assert rows and not [r.cell.id for r in rows if r.model_digest != start_of(r.dataset)[1]]


@pytest.mark.data
def test_committed_errors_follow_from_committed_predictions():
    from lgdcnn.benchmark.worker import loader
    for cell, stored, anew in recompute(committed(), loader()):
        assert anew == pytest.approx(stored, rel=1e-9, abs=1e-12), cell.id


def test_every_committed_row_has_its_published_metric():
    for row in committed().rows(): assert METRIC[row.task] in row.test


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError): RunRow(**ROW).seed = 3
