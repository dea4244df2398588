"""The best design is chosen on validation rows, by a rule that was written first, from all runs or not at all; and what is written runs."""
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from lgdcnn.benchmark.plan import MAIN, SMALL, by_size
from lgdcnn.cli import main
from lgdcnn.config import MODELS, InputError, ModelConfig
from lgdcnn.design.analysis import primary_answers, statement
from lgdcnn.design.best import NAME, as_line, best_design, errors_of_both, judge, ranking, scaled, write_best
from lgdcnn.design.grammar import Design
from lgdcnn.design.measured import made_up_runs, measured
from lgdcnn.design.runs import STUDY_SETS
from lgdcnn.design.stored import FILE, DesignPlan, append_run, check_line
from lgdcnn.networks.models import build_model, n_parameters

PLAN = DesignPlan(6)
NAMES = [d.name for d in PLAN.drawn]


@pytest.fixture(scope="module")
def study():
    "Validation errors of their own in each run; test errors that say the opposite."
    rng, runs = np.random.default_rng(3), made_up_runs(NAMES, PLAN.datasets, PLAN.seeds, lambda h, rng: h)
    return [r | {"val_mae": float(e), "test_mae": float(1 - e)} for r, e in zip(runs, rng.random(len(runs)), strict=True)]


def by_hand(runs) -> dict[str, float]:
    "Mean over the sets of the rank of the mean over the seeds."
    mean = [[np.mean([r["val_mae"] for r in runs if (r["design"], r["dataset"]) == (d, n)]) for n in PLAN.datasets] for d in NAMES]
    return dict(zip(NAMES, rankdata(mean, axis=0).mean(1), strict=True))


def test_the_rule_by_hand(study):
    rank = by_hand(study)
    assert {x.design.name: x.rank for x in ranking(study, PLAN)} == pytest.approx(rank)
    assert rank[best_design(study, PLAN).name] == min(rank.values())


@settings(max_examples=4, deadline=None)
@given(st.randoms(use_true_random=False), st.floats(0.01, 100))
def test_order_of_lines_units_and_references_change_nothing(study, luck, factor):
    runs = [r | {"val_mae": r["val_mae"] * (factor if r["dataset"] == "mp_mu_b" else 1)} for r in study]
    luck.shuffle(runs)
    worst = [r | {"val_mae": 0.0} if r["design"] not in NAMES else r for r in runs]  # the references are no candidates
    assert [x.design for x in ranking(worst, PLAN)] == [x.design for x in ranking(study, PLAN)]


def test_no_test_error_is_read(study):
    without = [{k: v for k, v in r.items() if k != "test_mae"} for r in study]
    assert best_design(without, PLAN) == best_design(study, PLAN)


@pytest.mark.parametrize("cut", [lambda r: r["seed"] == 2, lambda r: r["dataset"] == "mp_mu_b", lambda r: r["design"] == NAMES[0],
                                 lambda r: r["protocol"] and r["seed"] == 0])
def test_nothing_is_chosen_while_runs_are_missing(cut, study):
    with pytest.raises(InputError, match="runs of drawn designs are missing"): best_design([r for r in study if not cut(r)], PLAN)
    with pytest.raises(InputError, match="are missing"): best_design([r | ({"protocol": "another"} if cut(r) else {}) for r in study], PLAN)


def test_a_design_that_lost_a_training_is_out_and_of_two_alike_the_smaller_is_taken(study):
    best = best_design(study, PLAN).name
    lose = lambda names: [r | {"val_mae": None} if r["design"] in names and r["seed"] == 1 and r["dataset"] == "mp_mu_b" else r for r in study]
    assert best not in {x.design.name for x in ranking(lose({best}), PLAN)} and len(ranking(lose({best}), PLAN)) == 5
    with pytest.raises(InputError, match="there is no best"): best_design(lose(set(NAMES)), PLAN)
    alike = [r | {"val_mae": 1.0} for r in study]
    assert best_design(alike, PLAN) == min(PLAN.drawn, key=lambda d: n_parameters(build_model(d.config)))


# at the table's width

@pytest.mark.parametrize("design", ["lamc-32-k5u3+23", "m-64", "ssag-32"])
def test_a_design_becomes_as_wide_as_the_papers_parameters_allow(design):
    design = Design.from_name(design)
    config = scaled(design)
    assert n_parameters(build_model(config)) <= 8_635_911 and config.d_model == config.conv_width <= 512 and config.d_model % 64 == 0
    assert (config.stages, config.kernel, config.n_units, config.add) == tuple(getattr(design.config, k) for k in ("stages", "kernel", "n_units", "add"))
    if config.d_model < 512:
        wider = config.replace(d_model=config.d_model + 64, conv_width=config.d_model + 64)
        assert n_parameters(build_model(wider)) > 8_635_911
    assert eval(as_line(config), {"ModelConfig": ModelConfig}) == config  # the line that goes into the package


def test_what_is_written_is_a_network_that_train_and_benchmark_take(tmp_path):
    design = Design.from_name("cgc-48-k3u1+1")
    architecture, plugin = write_best(design, scaled(design, "written-by-a-test"), tmp_path)
    plan = CliRunner().invoke(main, ["benchmark", "plan", "--load", str(plugin), "--model", "written-by-a-test", "--dataset", "matbench_steels",
                                     "--protocol", "fast", "--seed", "1", "--format", "json"])
    assert [c["cell"] for c in json.loads(plan.stdout)] == [f"matbench_steels/written-by-a-test.fast.fold{k}.seed1" for k in range(5)]
    assert MODELS.pop("written-by-a-test") == ModelConfig.from_dict(json.loads(architecture.read_text()))


def test_the_command_chooses_from_a_whole_study(tmp_path, monkeypatch):
    from lgdcnn.design import best, stored
    whole = [check_line(r) for r in made_up_runs(NAMES, PLAN.datasets, PLAN.seeds, lambda h, rng: h)]
    for r in whole[1:]: append_run(tmp_path / "design", r)
    monkeypatch.setattr(best, "DesignPlan", lambda: PLAN)
    monkeypatch.setattr(stored, "DesignPlan", lambda: PLAN)
    ask = lambda *words: CliRunner().invoke(main, ["design", *words, "--results", str(tmp_path)])
    first = next(k for k, r in enumerate(whole) if r["design"] in NAMES)
    (tmp_path / "design" / FILE).write_text("".join(json.dumps(r) + "\n" for k, r in enumerate(whole) if k != first))
    assert "1 of 108 runs of drawn designs are missing" in ask("best").stderr
    append_run(tmp_path / "design", whole[first])
    found = ask("best")
    chosen = best_design(whole, PLAN)
    assert found.exit_code == 0 and found.stdout.startswith(f"{NAME} is {chosen.name}, ")
    assert (tmp_path / "design" / "best_drawn.py").is_file() and found.stdout.count("--dataset") == 13


# what counts as better

SETS = by_size(below=SMALL)


def rows(model, errors, seeds=(0, 1, 2), **more):
    return [SimpleNamespace(**{"model": model, "dataset": n, "fold": 0, "seed": s, "protocol": "fast", "task": "regression", "test": {"mae": e}} | more)
            for n, e in errors.items() for s in seeds]


def test_only_cells_of_both_by_the_protocol_are_compared():
    ours, theirs = rows(NAME, dict.fromkeys(SETS, 1.0), seeds=(0, 1)), rows(MAIN, dict.fromkeys(SETS[:7], 2.0))
    strange = [*rows(NAME, {SETS[0]: 9.0}, protocol="brief"), *rows(NAME, {SETS[0]: 9.0}, seeds=(7,)), *rows(MAIN, {SETS[0]: 9.0}, seeds=(7,)),
               *rows(NAME, {"mp_e_hull": 9.0}), *rows(MAIN, {"mp_e_hull": 9.0}), *rows(MAIN, {SETS[0]: 99.0}, seeds=(2,), fold=3)]
    assert errors_of_both([*ours, *theirs, *strange]) == dict.fromkeys(SETS[:7], (1.0, 2.0))


def test_sets_that_chose_change_no_verdict():
    errors = {n: (0.9 + 0.01 * k, 1.0) for k, n in enumerate(SETS)}
    verdict = judge(errors)
    assert len(verdict.ratios) == 10 and set(verdict.chose) == set(SETS) & set(STUDY_SETS)
    other = judge({n: (99.0, 1.0) if n in STUDY_SETS else e for n, e in errors.items()})
    assert (other.ratio, other.low, other.high, other.answer) == (verdict.ratio, verdict.low, verdict.high, "better")
    assert verdict.ratio == pytest.approx(math.exp(np.mean([math.log(r) for r in verdict.ratios.values()])))


def test_luck_is_seldom_called_better():
    "Of networks that differ by chance alone, few are told apart; of one that is always better, all."
    rng = np.random.default_rng(0)
    said = [judge({n: (float(np.exp(0.1 * rng.standard_normal())), 1.0) for n in SETS}, n=300, seed=k).answer for k in range(100)]
    assert said.count("no difference found") > 78
    assert judge({n: (0.97 + 0.001 * k, 1.0) for k, n in enumerate(SETS)}).answer == "better"


# the whole study, planted and shuffled, in a sentence

@pytest.mark.parametrize("error, idea", [(lambda h, rng: abs(h - 0.5) + 0.02 * rng.random(), "found."), (lambda h, rng: rng.random(), "not found.")])
def test_a_complete_study_says_in_words_what_was_planted(error, idea):
    plan = DesignPlan()
    runs = made_up_runs([d.name for d in plan.drawn], plan.datasets, plan.seeds, error, seed=5)
    assert len(runs) == 1134
    study = measured(runs, plan.datasets)
    said = statement(study, 1134, n=150)
    assert said.endswith(f"over 60 randomly drawn designs, 6 sets, all 1,134 runs): {idea}") and "so far" not in said
    assert "500 of 1,134 runs so far)" in statement(SimpleNamespace(designs=study.designs, sets=study.sets, n_runs=500), 1134,
                                                    answers=primary_answers(study, 20))
