"""A study is a file of whole lines: bad ones are refused, a kill loses the run in work, a rerun fills what is missing."""
import copy
import json
import math
import multiprocessing
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.config import InputError
from lgdcnn.data.datasets import load_dataset
from lgdcnn.design import stored
from lgdcnn.design.grammar import Design, draw_designs
from lgdcnn.design.looks import ROLES, layer_of
from lgdcnn.design.runs import PROTOCOL, STATES, STUDY_SETS, make_set, run_design
from lgdcnn.design.stored import FILE, DesignPlan, append_run, check_line, missing, read_runs, run_study

QUICK = PROTOCOL.replace(epochs=2)


@pytest.fixture(scope="module")
def small(): return make_set(load_dataset("exp_formation_enthalpy"), {"train": 64, "val": 20, "test": 20})


@pytest.fixture(scope="module")
def line(small): return run_design(Design("lc", 8, 1, 1), small, 0, QUICK)


# what a line must hold

def changed(line: dict, path: str, value) -> dict:
    "Copy a line and put a value in a place like 'cecv.trained.input'."
    line, *inner = copy.deepcopy(line), *path.split(".")
    place = line
    for key in inner[:-1]: place = place[key]
    if value is ...: del place[inner[-1]]
    else: place[inner[-1]] = value
    return line


def test_what_a_run_returns_is_a_line_and_survives_json(line):
    assert check_line(json.loads(json.dumps(line, allow_nan=False))) == line
    assert set(line["cecv"]) == set(STATES) and len(line["val"]) == 2


BAD = [("word", ..., "has not the fields"), ("more", 1, "has not the fields"), ("word", "cl", "its word is not"),
       ("design", "nonsense", "names no design"), ("design", 5, "not possible"), ("seed", "0", "not possible"),
       ("seed", True, "not possible"), ("seed", 1.0, "not possible"), ("seed", -1, "zero or positive"), ("compounds", 2, "from 1 to 2"),
       ("test_mae", -0.1, "zero or positive"), ("test_mae", math.nan, "zero or positive"), ("test_mae", None, "zero or positive"),
       ("test_mae", "0.1", "not possible"), ("val_mae", math.inf, "zero or positive"), ("val", [], "zero or positive"),
       ("val", [0.1, None], "zero or positive"), ("val", [True], "zero or positive"), ("val", "long", "not possible"),
       ("signals", {}, "signals must be"), ("signals.naswot", "high", "signals must be"), ("signals.naswot", math.nan, "signals must be"),
       ("signals.more", 1.0, "signals must be"), ("cecv", {}, "three points"), ("cecv.trained", ..., "three points"),
       ("cecv.trained.lstm", ..., "no counts at lstm"), ("cecv.early.dcnn-branch", [1] * 7, "counts must be 8"),
       ("cecv.early.dcnn-branch", [0] * 8, "from 1 to"), ("cecv.early.dcnn-branch", [1.5] * 8, "from 1 to"),
       ("band.trained", [[1] * 8], "three points"), ("band", {}, "three points"), ("failed", "lost", "has no errors"),
       ("provenance", {}, "name the training code"), ("provenance.training", 5, "name the training code"),
       ("seconds", {}, "no seconds of look_early, look_trained"), ("seconds.training", ..., "no seconds of training"),
       ("seconds.training", -1.0, "seconds must be"), ("seconds.training", None, "seconds must be")]


@pytest.mark.parametrize("path, value, why", BAD)
def test_a_bad_line_is_refused_when_written_and_when_read(path, value, why, line, tmp_path):
    bad = changed(line, path, value)
    with pytest.raises(InputError, match=why): check_line(bad)
    with pytest.raises(InputError): append_run(tmp_path, bad)
    assert read_runs(tmp_path) == []  # nothing was written
    (tmp_path / FILE).write_text(json.dumps(bad) + "\n")
    with pytest.raises(InputError, match="line 1 is damaged"): read_runs(tmp_path)


def test_lines_of_several_writers_at_once_are_all_there_and_whole(line, tmp_path):
    "One takes away the half line of a killed process; it must not take that of one which is still writing."
    lines = [line | {"seed": k} for k in range(200)]
    with ThreadPoolExecutor(8) as pool: list(pool.map(lambda x: append_run(tmp_path, x), lines))
    assert sorted(r["seed"] for r in read_runs(tmp_path)) == list(range(200))


@pytest.mark.parametrize("text", ["5", "[]", '"a run"', "{", "null"])
def test_what_is_no_run_at_all_is_refused_with_its_line(text, line, tmp_path):
    append_run(tmp_path, line)
    with open(tmp_path / FILE, "a") as f: f.write(text + "\n")
    with pytest.raises(InputError, match="line 2 is damaged"): read_runs(tmp_path)


def test_a_run_that_was_lost_is_a_line(line):
    lost = line | {"val": [], "val_mae": None, "test_mae": None, "failed": "loss is not finite",
                   "cecv": {"untrained": line["cecv"]["untrained"]}, "band": {"untrained": line["band"]["untrained"]}}
    assert check_line(lost) == lost
    with pytest.raises(InputError, match="looks must be"): check_line(line | {k: lost[k] for k in ("cecv", "band")})


def test_the_published_runs_are_runs_of_the_plan(root):
    "Each once, of the sets' one choice of rows, in the plan's order as far as it has come."
    runs, plan = read_runs(root / "results" / "design"), DesignPlan()
    cells = [(s, d.name, n) for s, d, n in plan.cells()]
    found = [(r["seed"], r["design"], r["dataset"]) for r in runs]
    assert len(runs) >= 60 and len(set(found)) == len(found) and set(found) <= set(cells)
    assert {r["protocol"] for r in runs} == {PROTOCOL.digest()}
    assert all(len({r["rows"] for r in runs if r["dataset"] == name}) == 1 for name in STUDY_SETS)


# kills

def made_up(design, data, seed, protocol, machine=None) -> dict:
    "Return what a run would, at once."
    layers, look = {layer_of(design, r) for r in ROLES}, [5] * 8
    return {"design": design.name, "dataset": data.name, "rows": data.digest, "protocol": protocol.digest(), "seed": seed,
            "word": design.word, "unit": "eV", "signals": dict.fromkeys(("parameters", "operations", "gradient_norm", "synflow", "naswot"), 1.0),
            "compounds": 9, "cecv": {s: dict.fromkeys(layers, look) for s in STATES}, "band": dict.fromkeys(STATES, [look] * 3),
            "val": [1.0, 0.5], "val_mae": 0.5, "test_mae": 0.6, "failed": "",
            "seconds": dict.fromkeys(("signals", "training", *(f"look_{s}" for s in STATES)), 1.0), "provenance": {"training": "made up"}}


SETS = ("a", "b")
PLAN = DesignPlan(n_designs=5, datasets=SETS, seeds=(0, 1), protocol=QUICK)
load = lambda name: SimpleNamespace(name=name, digest=f"rows of {name}")


def study(folder, run=made_up, **options):
    "Run the plan with made-up runs; returns how many are new."
    before, stored.run_design = stored.run_design, run
    try: return run_study(folder, PLAN, load=load, **options)
    finally: stored.run_design = before


def whole() -> list[tuple]: return [(d.name, n, s) for s, d, n in PLAN.cells()]


def known(folder) -> list[tuple]: return [(r["design"], r["dataset"], r["seed"]) for r in read_runs(folder)]


@settings(max_examples=8, deadline=None)
@given(stop=st.integers(0, 31), bite=st.integers(1, 400))
def test_an_end_at_any_run_and_any_byte_loses_that_run_and_no_other(stop, bite, tmp_path_factory):
    folder, asked = tmp_path_factory.mktemp("study"), []
    def run(*args):
        asked.append(args[:3])
        if len(asked) == stop + 1: raise KeyboardInterrupt
        return made_up(*args)
    try: study(folder, run)
    except KeyboardInterrupt: pass
    assert known(folder) == whole()[:stop]  # what was done is there
    path = folder / FILE
    if stop:
        path.write_bytes(path.read_bytes()[:-bite])  # the machine died while the last line was on its way
        assert known(folder) == whole()[:stop - 1]
    assert study(folder) == 32 - max(0, stop - 1)  # only what is missing
    assert known(folder) == whole() and study(folder) == 0 and missing(folder, PLAN) == []


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes start slowly here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_twelve_real_kills_lose_no_line(tmp_path):
    "The process is shot at any moment; each life adds to what the last one left."
    slow = lambda *args: time.sleep(0.002) or made_up(*args)
    context, before, lives = multiprocessing.get_context("fork"), [], 0
    while lives < 12 and len(before) < 32:
        child = context.Process(target=study, args=(tmp_path, slow))
        child.start()
        wanted = len(before) + lives % 3  # however long it takes to get there: what counts is where it is shot
        while child.is_alive() and len(known(tmp_path)) < wanted: time.sleep(0.001)
        time.sleep(0.0007 * lives)
        child.kill()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        now, lives = known(tmp_path), lives + 1
        assert now[:len(before)] == before and now == whole()[:len(now)]
        before = now
    assert len(before) > 3
    assert study(tmp_path) == 32 - len(before) and known(tmp_path) == whole()


def test_shares_are_the_whole(tmp_path):
    for k in (1, 2, 3): assert study(tmp_path / str(k), share=f"{k}/3") in (10, 12)  # five or six designs, on both sets
    found = [x for k in (1, 2, 3) for x in known(tmp_path / str(k))]
    assert sorted(found) == sorted(whole())


def test_time_that_is_up_ends_the_study_and_a_set_of_other_rows_is_refused(tmp_path):
    assert study(tmp_path, minutes=0) == 0
    heard = []
    assert study(tmp_path, say=heard.append) == 32 == len(heard) and heard[0].startswith("31 left; lagac-64-k3u3 on a, seed 0: test MAE 0.6 eV")
    more = DesignPlan(n_designs=6, datasets=SETS, seeds=(0,), protocol=QUICK)
    with pytest.raises(InputError, match="a has other rows"):
        run_study(tmp_path, more, load=lambda name: SimpleNamespace(name=name, digest="other"))


def test_a_longer_study_keeps_what_a_shorter_one_ran(tmp_path):
    study(tmp_path)
    more = DesignPlan(n_designs=6, datasets=SETS, seeds=(0, 1), protocol=QUICK)
    assert [d.name for _, d, _ in missing(tmp_path, more)] == [draw_designs(6, but=stored.REFERENCES.values())[-1].name] * 4


@pytest.mark.parametrize("stops", [(0, 0), (1, 6), (9, 3), (15, 16)])
def test_shares_that_were_stopped_go_on_with_their_own(stops, tmp_path):
    "A share is counted over the plan: whatever was done before, no run is made in two places."
    for k, stop in enumerate(stops, 1):
        left = iter([False] * stop + [True])
        def run(*args, left=left):
            if next(left, False): raise KeyboardInterrupt
            return made_up(*args)
        try: study(tmp_path / str(k), run, share=f"{k}/2")
        except KeyboardInterrupt: pass
    for k in (1, 2): study(tmp_path / str(k), share=f"{k}/2")
    assert sorted(known(tmp_path / "1") + known(tmp_path / "2")) == sorted(whole())


# coming home

def merged(folder, *others, plan=PLAN, **options): return stored.merge_runs(folder, others, plan, **options)


@settings(max_examples=10, deadline=None)
@given(parts=st.lists(st.sets(st.integers(0, 31)), min_size=1, max_size=3), luck=st.randoms(use_true_random=False))
def test_what_comes_home_is_each_run_once_in_the_order_of_the_plan(parts, luck, tmp_path_factory):
    "However runs were spread over folders, and in whatever order they came."
    folder = tmp_path_factory.mktemp("home")
    every = [made_up(d, load(n), s, QUICK) for s, d, n in PLAN.cells()]
    for k, part in enumerate(parts):
        for i in luck.sample(sorted(part), len(part)): append_run(folder / str(k), every[i])
        (folder / str(k)).mkdir(exist_ok=True)
        (folder / str(k) / FILE).touch()
    there = set().union(*parts)
    done = merged(folder, *(folder / str(k) for k in range(len(parts))))
    assert known(folder) == [whole()[i] for i in sorted(there)]
    assert done == {"runs": len(there), "new": len(there), "copies": sum(map(len, parts)) - len(there), "missing": 32 - len(there)}
    before = (folder / FILE).read_bytes()
    assert merged(folder)["new"] == 0 and (folder / FILE).read_bytes() == before


def test_two_copies_may_differ_in_time_and_place_and_the_one_that_is_there_stays(tmp_path):
    line = made_up(PLAN.drawn[0], load("a"), 0, QUICK)
    append_run(tmp_path, line)
    append_run(tmp_path / "b", line | {"seconds": line["seconds"] | {"training": 9.0}, "provenance": {"training": "made up", "threads": 2}})
    assert merged(tmp_path, tmp_path / "b") == {"runs": 1, "new": 0, "copies": 1, "missing": 31} and read_runs(tmp_path) == [line]


@pytest.mark.parametrize("path, value, why", [("test_mae", 0.7, "differ in test_mae"), ("cecv.trained.input", [4] * 8, "differ in cecv"),
                                              ("rows", "of another a", "differ in rows"), ("seed", 7, "does not ask for"),
                                              ("protocol", "another", "does not ask for"), ("dataset", "c", "does not ask for"),
                                              ("compounds", 2, "line 1 is damaged")])
def test_what_contradicts_itself_or_the_plan_is_refused_and_nothing_is_written(path, value, why, tmp_path):
    line = made_up(PLAN.drawn[0], load("a"), 0, QUICK)
    append_run(tmp_path, line)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FILE).write_text(json.dumps(changed(line, path, value)) + "\n")
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(InputError, match=why): merged(tmp_path, tmp_path / "b")
    assert (tmp_path / FILE).read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["b", FILE]


def test_sets_of_different_rows_and_contradictions_within_one_file_are_refused(tmp_path):
    line, other = (made_up(d, load("a"), 0, QUICK) for d in PLAN.drawn[:2])
    for k, x in (("a", line), ("b", other | {"rows": "of another a"})): append_run(tmp_path / k, x)
    with pytest.raises(InputError, match="a were made with different rows: of another a, rows of a"): merged(tmp_path, tmp_path / "a", tmp_path / "b")
    append_run(tmp_path / "a", line | {"test_mae": 0.9})
    with pytest.raises(InputError, match="differ in test_mae"): merged(tmp_path, tmp_path / "a")
    with pytest.raises(InputError, match="there are no runs in"): merged(tmp_path, tmp_path / "c")
    assert not (tmp_path / FILE).exists()


def test_a_commit_takes_the_name_that_it_has_today(tmp_path):
    for k, commit in (("a", "2546cc8697"), ("b", "c1f0381be7"), ("c", None)):
        made = {"training": "made up"} | ({"commit": commit} if commit else {})
        append_run(tmp_path / k, made_up(PLAN.drawn["abc".index(k)], load("a"), 0, QUICK) | {"provenance": made})
    merged(tmp_path, *(tmp_path / k for k in "abc"), renamed={"2546cc8697": "c1f0381be7"})
    assert [r["provenance"].get("commit") for r in read_runs(tmp_path)] == ["c1f0381be7", "c1f0381be7", None]
