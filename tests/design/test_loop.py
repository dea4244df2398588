"""Ways to decide pay for what they know, and know nothing that they have not paid for."""
import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.config import InputError
from lgdcnn.data.datasets import load_dataset
from lgdcnn.design import own
from lgdcnn.design.grammar import Design
from lgdcnn.design.loop import (
    PAPER,
    WAYS,
    Table,
    against_random,
    among_best,
    regret_curve,
    regret_of,
    replay,
    table_of,
    tables,
)
from lgdcnn.design.measured import made_up_runs
from lgdcnn.design.own import RULES, Search, Tried, best_of, own_set, read_tried, search_design
from lgdcnn.design.runs import EARLY, PROTOCOL


def table_with(seed: int, d: int = 12, epochs: int = 40) -> Table:
    rng = np.random.default_rng(seed)
    return Table("a", 0, tuple(map(str, range(d))), rng.random((d, epochs)), rng.random(d), rng.random(d), rng.random(d) < 0.5,
                 rng.uniform(0.5, 1.5, d), rng.uniform(0, 0.05, d), (0.5, 1.0), 0.1)


ORDERS = st.permutations(range(12))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10 ** 6), ORDERS, st.sampled_from(list(WAYS)))
def test_a_way_pays_once_for_each_epoch_and_trains_none_twice(seed, order, name):
    table = table_with(seed)
    payments = list(WAYS[name](table, order))
    ended = [d for _, d in payments if d is not None]
    assert len(set(ended)) == len(ended) and all(c >= 0 for c, _ in payments)
    whole = table.cost[ended].sum()
    spent = sum(c for c, _ in payments)
    assert whole - 1e-9 <= spent <= table.cost.sum() + table.look.sum() + table.region + 1e-9
    if name == "random search": assert ended == list(order) and spent == pytest.approx(table.cost.sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10 ** 6), ORDERS, st.sampled_from(list(WAYS)))
def test_a_way_does_not_know_what_it_has_not_paid_for(seed, order, name):
    "Other test errors, final errors and late epochs change nothing in what is asked; nor does what comes later in the order."
    table, other = table_with(seed), table_with(seed + 1)
    late = table.curve.copy()
    late[:, 9:] = other.curve[:, 9:]
    blind = dataclasses.replace(table, val=other.val, test=other.test, curve=late)
    assert list(WAYS[name](blind, order)) == list(WAYS[name](table, order))
    if name != "successive halving":  # which looks at nine together
        part = list(WAYS[name](table, order[:5]))
        assert list(WAYS[name](table, order))[:len(part)] == part


def test_each_way_asks_what_it_says():
    table, order = table_with(3), list(range(12))
    ended = {name: [d for _, d in way(table, order) if d is not None] for name, way in WAYS.items()}
    assert ended["CECV"] == np.flatnonzero(table.inside).tolist()
    seen, wanted = [], []
    for d in order:  # by hand: the place among those seen
        seen.append(table.curve[d, EARLY - 1])
        if sorted(seen).index(seen[-1]) < max(1, math.ceil(len(seen) / 3)): wanted.append(d)
    assert ended["early error"] == wanted
    nine = sorted(sorted(range(9), key=lambda d: table.curve[d, 1])[:3], key=lambda d: table.curve[d, 8])[0]
    assert ended["successive halving"][0] == nine and len(ended["successive halving"]) == 2
    assert set(ended["both"]) <= set(ended["CECV"])
    paid = list(WAYS["CECV"](table, order))
    assert paid[0] == (table.region, None) and paid[1][0] == pytest.approx(table.cost[0] * EARLY / 40 + table.look[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10 ** 6), ORDERS, st.sampled_from(list(WAYS)))
def test_regret_begins_at_one_and_ends_at_the_best_of_what_was_trained(seed, order, name):
    table = table_with(seed)
    payments = list(WAYS[name](table, order))
    ended = [d for _, d in payments if d is not None]
    curve = regret_curve(iter(payments), table, np.linspace(0, 20, 200))
    answer = min(ended, key=lambda d: table.val[d]) if ended else None
    assert curve[0] == 1 and curve[-1] == (1 if answer is None else pytest.approx(regret_of(table, table.test[answer])))


def test_where_validation_is_test_regret_only_falls_and_ends_at_zero():
    table = table_with(1)
    table = dataclasses.replace(table, val=table.test)
    curve = regret_curve(WAYS["random search"](table, range(12)), table, np.linspace(0, 15, 100))
    assert (np.diff(curve[curve < 1]) <= 1e-12).all() and curve[-1] == 0
    assert regret_of(table, float(np.median(table.test))) == 1
    assert regret_of(dataclasses.replace(table, test=np.ones(12)), 2.0) == 0  # all alike: nothing to regret


@pytest.mark.parametrize("value, others, wanted", [(1, [], True), (math.inf, [], False), (2, [1], False), (2, [1, 3, 4], True),
                                                   (3, [1, 2, 4, 5, 6], False), (3, [1, 4, 5, 6, 7], True)])
def test_the_best_third_by_hand(value, others, wanted): assert among_best(value, others) == wanted


NAMES = [f"{word}-{width}" for word in ("lg", "s", "m") for width in (32, 64, 96)]


def test_a_run_that_was_lost_is_paid_for_and_never_the_answer():
    runs = made_up_runs(NAMES, "a", [0], lambda h, rng: 1 + h)
    lost = next(r for r in runs if r["design"] == NAMES[4])
    lost |= {"test_mae": None, "val_mae": None, "val": [], "failed": "lost", "seconds": {"signals": 1.0}}
    table = table_of(runs)
    assert table.cost[4] == pytest.approx(1) and np.isinf(table.val[4]) and np.isinf(table.curve[4]).all()
    for way in WAYS.values():
        curve = regret_curve(way(table, [4, *range(4), *range(5, 9)]), table, np.linspace(0, 9, 50))
        assert np.isfinite(curve).all()


def test_the_study_that_is_not_done_makes_smaller_tables(root):
    runs = made_up_runs(NAMES, "ab", [0, 1], lambda h, rng: h)
    part = [r for r in runs if not (r["seed"] == 1 and r["dataset"] == "b" and r["design"] in NAMES[5:])]
    assert [len(t.designs) for t in tables(part, "ab")] == [9, 9, 5, 5]
    with pytest.raises(InputError, match="too few"): tables([r for r in runs if r["design"] != "l-64"], "ab")


def test_where_early_error_tells_all_it_beats_random_search():
    runs = made_up_runs([f"{w}-{d}" for w in ("lg", "s", "m", "sm", "gm") for d in (32, 64, 96)], "ab", [0], lambda h, rng: 1 + h)
    for r in runs: r["val"] = [r["test_mae"]] * 40
    found = replay(tables(runs, "ab"), 20)
    verdict = against_random(found, 500)
    assert verdict.loc["early error", "verdict"] == verdict.loc["successive halving", "verdict"] == "better"
    assert verdict.loc["random search", "verdict"] == "" and set(verdict.index) == {*WAYS, PAPER}
    assert all((r[:, 0] == 1).all() for r in found.regret.values())


# one's own rows

DRAWN = [Design(word, 8) for word in ("lg", "gl", "s", "sm", "ms", "mm", "ga")]


@pytest.fixture(scope="module")
def rows():
    ds = load_dataset("exp_formation_enthalpy")
    return own_set(ds.frame["formula"][:80], ds.frame["target"][:80])


def made_up(calls: list):
    def one(design, data, search, decide, role="drawn"):
        calls.append(design.name)
        rng = np.random.default_rng(sum(map(ord, design.name)))
        error, seen = float(rng.random()), [0.2 if role == "global" else 0.8 if role == "local" else float(rng.random())] * 8
        why = decide(error, seen)
        return Tried(design.name, role, error, seen, why) if why else Tried(design.name, role, error, seen, "trained to the end", error, error, seen)
    return one


@pytest.mark.parametrize("rule", RULES)
def test_a_search_that_is_stopped_ends_as_one_that_was_not(rule, rows, tmp_path, monkeypatch):
    search, calls = Search(rule, 6, protocol=PROTOCOL.replace(epochs=3)), []
    monkeypatch.setattr(own, "try_design", made_up(calls))
    monkeypatch.setattr(own, "draw_designs", lambda n, *rest, **more: DRAWN[:n])
    whole = search_design(rows, tmp_path / "whole", search)
    for _ in range(3):
        search_design(rows, tmp_path / "cut", search)
        path = tmp_path / "cut" / own.FILE
        path.write_bytes(path.read_bytes()[:-40])  # the last line died
    assert search_design(rows, tmp_path / "cut", search) == whole == read_tried(tmp_path / "cut")[1]
    ends = 2 * (rule in ("cecv", "both"))
    assert [t.role for t in whole] == ["global", "local"][:ends] + ["drawn"] * 6 and len(calls) == (6 + ends) + (6 + ends) + 3
    if rule == "none": assert best_of(whole).val_mae == min(t.early_error for t in whole)
    if ends: assert all(0.2 <= t.early[0] <= 0.8 for t in whole if t.val_mae is not None)


def test_another_search_in_the_folder_is_refused_and_so_is_cecv_without_compounds(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(own, "try_design", made_up([]))
    monkeypatch.setattr(own, "draw_designs", lambda n, *rest, **more: DRAWN[:n])
    search_design(rows, tmp_path, Search("none", 2))
    for other in (Search("early", 2), Search("none", 2, seed=1), Search("none", 2, protocol=PROTOCOL.replace(epochs=5))):
        with pytest.raises(InputError, match="another search"): search_design(rows, tmp_path, other)
    assert len(search_design(rows, tmp_path, Search("none", 3))) == 3  # a longer one goes on
    two = own_set(["NaCl", "KCl", "LiF", "NaF", "KBr", "LiCl", "RbI", "CsF", "MgO", "CaO", "SrO", "BaO", "ZnS", "TiO"], np.arange(14.0))
    with pytest.raises(InputError, match="no compound has 3 to 7 elements"): search_design(two, tmp_path / "b", Search("cecv"))
    with pytest.raises(InputError, match="trained to its end"): best_of([])
    with pytest.raises(InputError, match="holds no search"): read_tried(tmp_path / "none")


GOOD = {"design": "l-64", "role": "drawn", "early_error": 0.2, "early": None, "decision": "trained to the end", "val_mae": 0.1, "test_mae": 0.2}


@pytest.mark.parametrize("line, why", [([1], "a line is none of a search"), ({"key": 5, "tried": GOOD}, "a line is none of a search"),
                                       ({"key": {}, "tried": {"design": "l-64"}}, "missing 4 required"),
                                       ({"key": {}, "tried": GOOD | {"design": "nonsense"}}, "names no design"),
                                       ({"key": {}, "tried": GOOD | {"val_mae": "0.1"}}, "val_mae = '0.1' is no number"),
                                       ({"key": {}, "tried": GOOD | {"early_error": True}}, "early_error = True is no number")])
def test_a_search_that_was_tampered_with_is_refused(line, why, tmp_path):
    (tmp_path / own.FILE).write_text(json.dumps(line) + "\n")
    with pytest.raises(InputError, match=why): own.told(tmp_path)


def test_a_search_is_told_with_its_unit_and_with_what_is_left(tmp_path):
    "Lines of earlier versions, without unit and number, are told as well; two searches in one file are not."
    write = lambda *lines: (tmp_path / own.FILE).write_text("".join(json.dumps(x) + "\n" for x in lines))
    line = {"key": {}, "tried": GOOD, "unit": "eV", "of": 12}
    write(line)
    assert own.told(tmp_path)[2:] == ["11 of 12 were not tried: the same command goes on", "the only one that was trained to its end: l-64",
                                      "validation MAE 0.1 eV, on rows that chose it", "test MAE 0.2 eV, on rows that chose nothing"]
    write({"key": {}, "tried": GOOD}, {"key": {}, "tried": GOOD | {"design": "s-64", "val_mae": 0.05}})
    assert own.told(tmp_path)[3:] == ["best of 2 that were trained to their end: s-64", "validation MAE 0.05, on rows that chose it",
                                      "test MAE 0.2, on rows that chose nothing"]
    write({"key": {}, "tried": GOOD | {"val_mae": None, "test_mae": None, "decision": "not in the best third"}})
    assert own.told(tmp_path)[-1].startswith("no design was trained to its end")
    write(line, line | {"key": {"seed": 1}})
    with pytest.raises(InputError, match="holds two searches"): own.told(tmp_path)


@pytest.mark.parametrize("who", ["l-64", "c-64-k1u3", "lagac-64-k3u3"])
def test_a_reference_that_lost_its_training_stops_no_replay(who):
    "Its cost is that of a mean training; the paper's way has no answer then."
    runs = made_up_runs(NAMES, "a", [0], lambda h, rng: 1 + h)
    lost = next(r for r in runs if r["design"] == who)
    lost |= {"test_mae": None, "val_mae": None, "val": [], "failed": "lost", "seconds": {"signals": 1.0, "look_untrained": 1.0}}
    found = replay(tables(runs, "a"), 4)
    assert all(np.isfinite(r).all() for r in found.regret.values())
    if who.startswith("lagac"): assert (found.regret[PAPER] == 1).all()
