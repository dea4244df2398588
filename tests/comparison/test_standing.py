"Differences in the table: what is more than chance, on which rows, and what the files in results/table rest on."
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lgdcnn.benchmark.results import Cell
from lgdcnn.benchmark.store import ResultStore
from lgdcnn.comparison.against import fold_errors
from lgdcnn.comparison.evidence import read_evidence
from lgdcnn.comparison.paired import difference, is_tie, most, paired_bootstrap, sign_test
from lgdcnn.comparison.render import as_csv, render, render_difference
from lgdcnn.comparison.standing import (
    authors_errors,
    count_words,
    fold_differences,
    groups_of,
    informed,
    is_new,
    mark_ties,
    rivals_of,
    stamp,
    standing,
    table_lines,
    told,
)
from lgdcnn.comparison.table import ELSEWHERE, comparison, leading, verdict
from lgdcnn.config import InputError
from lgdcnn.data.published import published, published_folds, published_predictions
from lgdcnn.studies.demo import DemoPlan, loadable, write_tables

BULK = "aflow__ael_bulk_modulus_vrh"


@pytest.fixture(scope="module")
def store(root):
    return ResultStore(root / "results" / "benchmark")


@pytest.fixture(scope="module")
def rows(store):
    return store.rows()


@pytest.fixture(scope="module")
def known(root):
    return root / "results" / "table"


def test_no_probability_is_zero():
    "2,000 resamples cannot promise more than one in 2,001; the old share of resamples said 0."
    assert paired_bootstrap(np.full(50, -1.0))["p"] == 1 / 2001
    assert paired_bootstrap(np.full(50, 1.0), n=99)["p"] == 1 / 100


@pytest.mark.data
def test_seeds_of_one_network_do_not_differ(store):
    "Two seeds against two others of one network: rows alone see a difference far too often, rows and seeds do not."
    from itertools import combinations

    from lgdcnn.benchmark.worker import loader
    data = loader()(BULK)
    errors = {s: fold_errors(store, data, [Cell(BULK, 0, "l-g-dcnn", "fast", s)])[0] for s in range(5)}
    pairs = [(a, b) for a in combinations(range(5), 2) for b in combinations(range(5), 2) if a < b and not set(a) & set(b)]
    def told_apart(with_seeds):
        found = [[np.concatenate([errors[s] for s in part]) for part in pair] for pair in pairs]
        lines = [paired_bootstrap(a, b, 500) if with_seeds else paired_bootstrap(a.mean(0), b.mean(0), 500) for a, b in found]
        return sum(not r["low"] <= 0 <= r["high"] for r in lines)
    assert len(pairs) == 15 and told_apart(True) == 0 < told_apart(False)


def test_one_seed_is_said():
    one = {0: np.array([[1.0, 2.0, 4.0]])}
    two = {0: np.array([[1.0, 2.0, 4.0], [2.0, 2.0, 5.0]])}
    alone = {"dataset": BULK} | difference(one, one, ("net", "trees"))
    assert (alone["seeds"], alone["noise"]) == ("1 and 1", "rows only")
    assert "one seed each" in render_difference([alone]) and "rows only (1 of 1)" in render_difference([alone], "md")
    known = {"dataset": BULK} | difference(two, one, ("net", "trees"))
    assert (known["seeds"], known["noise"]) == ("2 and 1", "rows and seeds of net")
    assert "one seed each" not in render_difference([known])


def test_a_star_is_a_model_not_a_choice_of_protocol(rows):
    "The star marked the lowest of all protocols of one network; and a model that stood alone had one."
    records = comparison(rows)
    for dataset in {r["dataset"] for r in records}:
        of = [r for r in records if r["dataset"] == dataset]
        stars = [r for r in of if r["winner"]]
        whole = {r["model"] for r in of if r["folds"] == r["of_folds"]} - set(ELSEWHERE)
        assert len(stars) <= 1 and not {r["model"] for r in stars} & set(ELSEWHERE)
        if len(whole) < 2: assert not stars, f"{dataset}: nobody to win against"
        for r in stars:
            counts = leading(of, r["model"])
            assert r in counts or not counts, f"{dataset}: {r['model']} does not count by {r['protocol']}"


def test_what_learnt_from_other_tables_wins_nothing_and_says_so(rows):
    one, *_ = (r for r in rows if r.model == "fused")
    better = replace(one, model="fused-transfer", test=one.test | {"mae": one.test["mae"] / 2})
    records = comparison([*rows, better])
    of = [r for r in records if r["dataset"] == one.dataset]
    assert next(r for r in of if r["model"] == "fused-transfer")["winner"] == ""
    assert [r["model"] for r in of if r["winner"]] == [r["model"] for r in comparison(rows) if r["winner"] and r["dataset"] == one.dataset]
    assert "learnt from the other tables too" in verdict(records, "fused-transfer", "none").splitlines()[0]
    assert "other tables" not in verdict(records, "fused", "none")


def test_ties_have_a_legend(rows, known):
    records = informed(rows, known)
    text = render(records)
    assert {r["winner"] for r in records} <= {"", "*", "=", "(*)"}
    for mark in {r["winner"] for r in records} - {""}: assert f"\n{mark}: " in text
    pairs = {(p["dataset"], p["model"], p["protocol"]): p for p in table_lines(known, "pairs")}
    for r in records:
        p = pairs.get((r["dataset"], r["model"], r["protocol"]))
        if r["winner"] == "=" and p: assert is_tie(p)
        if r["winner"] == "*": assert not [p for p in pairs.values() if p["lowest"] == r["model"] and
                                           p["dataset"] == r["dataset"] and is_tie(p)]


def test_stale_pairs_do_not_count(rows, known):
    pairs = [p | {"stamp": "older"} for p in table_lines(known, "pairs")]
    assert {r["winner"] for r in mark_ties(comparison(rows), rows, pairs)} <= {"", "(*)"}


def test_the_tables_are_those_of_the_stored_runs(rows, known):
    made_by = "papermill nbs/benchmarks/evidence.ipynb out.ipynb --cwd nbs/benchmarks"
    groups = groups_of(rows)
    wanted = {(*a, stamp(groups[a], groups[b])) for a, b in rivals_of(groups)}
    key = lambda r: (r["dataset"], r["model"], r["protocol"], r["stamp"])
    assert wanted == {key(r) for r in table_lines(known, "pairs")}, f"run {made_by}"
    matbench = {(*k, stamp(g)) for k, g in groups.items() if k[0].startswith("matbench") and g[0].task == "regression" and stamp(g)}
    assert matbench == {key(r) for r in table_lines(known, "novelty")}, f"run {made_by}"
    for r in table_lines(known, "trees"): assert stamp(groups[key(r)[:3]], groups[r["dataset"], r["peer"], "none"]) == r["stamp"]
    for r in table_lines(known, "authors"): assert stamp(groups[key(r)[:3]]) == r["stamp"], f"run {made_by}"


@pytest.mark.parametrize("name", ["pairs", "trees", "authors", "novelty"])
def test_lines_that_were_read_are_written_as_they_were(name, known):
    "A count that became a float, a digest a number or a missing value a word would show."
    assert as_csv(table_lines(known, name)) + "\n" == (known / f"{name}.csv").read_text()


def test_the_paired_difference_is_that_of_the_published_errors(rows, known):
    "The mean difference row by row must be our error minus the paper's, whatever its noise."
    lines = table_lines(known, "authors")
    mae = {(r["dataset"], r["model"], r["protocol"]): r["mae"] for r in comparison(rows)}
    assert len({r["dataset"] for r in lines}) >= 8
    for r in lines:
        ours, theirs = mae[r["dataset"], r["model"], r["protocol"]], published()[r["dataset"]]["lgdcnn"]
        assert r["difference"] == pytest.approx(ours - theirs, abs=2e-3 * theirs)
        assert r["low"] < r["difference"] < r["high"] and 0 < r["p"] < 1


def test_every_filled_set_is_below_above_or_a_tie(rows, known):
    records = comparison(rows)
    lines = standing(records, read_evidence(known), table_lines(known, "authors"))
    assert {r["word"] for r in lines} <= {"below", "above", "tie"}
    assert all(r["how"] == "row by row" for r in lines if r["dataset"].startswith("matbench"))
    for r in lines:
        if r["low"] <= 0 <= r["high"]: assert r["word"] == "tie"
    debye = next(r for r in lines if r["dataset"] == "aflow__ael_debye_temperature")
    assert debye["mae"] < published()["aflow__ael_debye_temperature"]["lgdcnn"], "below in the table"
    assert debye["word"] == "tie", "and by less than the error of one test set"
    assert "a tie within the error" in told(lines)


@pytest.mark.data
def test_the_carried_predictions_are_those_of_the_published_folds():
    from lgdcnn.benchmark.worker import loader
    load = loader()
    for name, folds in published_folds().items():
        if len(published_predictions()[name]) > 20_000: continue  # the two largest take a while
        errors = authors_errors(load(name), range(5))
        assert [e.mean() for e in errors.values()] == pytest.approx(folds, rel=2e-4)


@pytest.mark.data
def test_new_compositions_of_a_fold_are_not_in_its_training_rows():
    from lgdcnn.benchmark.worker import loader
    data = loader()("matbench_jdft2d")
    new = is_new(data, 0)
    split = data.splits[0]
    def names(r): return {tuple(zip(data.compositions[[i]].numbers.tolist(), np.round(data.compositions[[i]].fractions, 9).tolist(), strict=True)) for i in r}
    trained = names(np.concatenate([split.train, split.val]))
    assert new.tolist() == [not names([i]) & trained for i in split.test] and 0 < new.mean() < 1


def test_what_speaks_for_the_network_is_counted(known):
    lines = table_lines(known, "trees")
    words = count_words(lines)
    assert sum(words.values()) == len(lines) >= 15 and words["below"] > words["above"]


def test_new_compositions_are_harder(known):
    "An error of 48 on jdft2d is one of 54 on compositions that training had not seen, and of 14 on the others."
    of = {r["dataset"]: r for r in table_lines(known, "novelty") if (r["model"], r["protocol"]) == ("l-g-dcnn", "fast")}
    jdft2d = of["matbench_jdft2d"]
    assert jdft2d["n_new"] + jdft2d["n_seen"] == 636 and jdft2d["mae_new"] > 3 * jdft2d["mae_seen"]


def test_folds_of_others(rows):
    assert {"matbench_steels", "matbench_phonons"} <= {r["dataset"] for r in fold_differences(rows, "CrabNet")}
    with pytest.raises(InputError, match="no published folds"): fold_differences(rows, "nobody")


def test_the_new_best_values_are_used():
    best = {d: p["best"] for d, p in published().items()}
    assert (best["matbench_phonons"], best["matbench_log_gvrh"], best["matbench_log_kvrh"], best["matbench_dielectric"]) == \
        (41.948, 0.093066, 0.072517, 0.30661)


@pytest.mark.parametrize("yes, n, word", [(14, 24, "undecided"), (19, 24, "the claim holds"), (5, 24, "the claim does not hold"),
                                          (0, 0, "undecided"), (5, 5, "undecided"), (6, 6, "the claim holds")])
def test_most_sets_needs_a_sign_test(yes, n, word):
    assert most(yes, n).split(" (")[0] == word
    scipy = pytest.importorskip("scipy.stats")
    assert sign_test(yes, n) == pytest.approx(scipy.binomtest(yes, n).pvalue if n else 1)


def test_the_demo_shows_its_strong_peers(root):
    scores = pd.read_csv(root / "results" / "demo" / "scores.csv")
    mae, trees = scores.groupby("model").mae.mean(), loadable(DemoPlan().baselines[-1])
    assert {"random-forest-magpie", trees, f"l-g-dcnn+{trees}"} <= set(mae.index)
    assert mae["random-forest-magpie"] < 0.6 * mae["random-forest"], "the forest on fractions was a straw man"
    pairs = pd.read_csv(root / "results" / "demo" / "comparison.csv").set_index(["a", "b"])
    assert ("l-g-dcnn", trees) in pairs.index and (f"l-g-dcnn+{trees}", "l-g-dcnn") in pairs.index
    p = pd.read_csv(root / "results" / "demo" / "predictions.csv")
    errors = {m: (r.prediction - r.target).abs().to_numpy() for m, r in p.groupby("model")}
    if pairs.seeds.max() == 1: assert pairs.difference[("l-g-dcnn", trees)] == pytest.approx(
        (errors["l-g-dcnn"] - errors[trees]).mean(), abs=1e-6)


def test_a_demo_with_another_seed_keeps_the_networks_predictions(tmp_path):
    "The lowest seed of all models was kept, which is that of the baselines: `lgdcnn demo --seed 3` lost its network."
    line = lambda model, seed: pd.DataFrame([{"model": model, "seed": seed, "prediction": 1.0}])
    write_tables({"predictions": [line("mean", 0), line("lstm", 4), line("lstm", 3)]}, tmp_path)
    kept = pd.read_csv(tmp_path / "predictions.csv")
    assert list(zip(kept.model, kept.seed, strict=True)) == [("mean", 0), ("lstm", 3)]


def test_an_interval_of_two_models_is_that_of_the_textbook():
    rng = np.random.default_rng(5)
    a, b = rng.normal(1, 0.5, (3, 4000)), rng.normal(1.2, 0.5, (1, 4000))
    found = paired_bootstrap(a[:1], b)
    d = a[0] - b[0]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * d.std() / math.sqrt(4000), rel=0.06)
