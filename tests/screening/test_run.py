"A screening gives the same bytes whoever makes its parts, goes on where it was killed, and refuses in one line what would lose something."
import csv
import errno
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn import FusedRegressor, LGDCNNRegressor, __version__
from lgdcnn.cli import main
from lgdcnn.cluster import engines
from lgdcnn.cluster.engines import in_turn
from lgdcnn.composition import SYMBOLS, featurize
from lgdcnn.config import MODELS, InputError
from lgdcnn.fusion.members import Member
from lgdcnn.screening import command, run
from lgdcnn.screening import parts as files
from lgdcnn.screening.aims import best, read_aim
from lgdcnn.screening.filters import composition_hashes, unknown, without
from lgdcnn.screening.groups import element_list
from lgdcnn.screening.models import Answers, Named, read_named
from lgdcnn.screening.parts import ScreenQuestion, Table, part_path
from lgdcnn.screening.report import in_words, notes, short_list
from lgdcnn.screening.run import Done, Task, screen
from lgdcnn.screening.space import Enumeration
from lgdcnn.screening.template import Template

ASK = "--pattern A1-xA'xTiO3 --site A=Ca,Sr,Ba --site A'=Ca,Sr,Ba --x 0:0.5:0.25 --rows 7 --model gap=band_gap_mp --max gap --quiet".split()


class Lengths:
    "Stand in for models: the value of a candidate follows from its composition, and is the same for many."
    labels = ["gap"]
    def __init__(self, *rest): pass
    def check(self, option="--model"): pass
    def ask(self, c): return {"value(gap)": np.round(np.add.reduceat(c.numbers * c.fractions, c.offsets[:-1]) if len(c) else np.zeros(0))
                              .astype(np.float32), "unseen": np.zeros(len(c), dtype=bool)}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(run, "Answers", Lengths)
    run._worker.cache_clear()
    yield
    run._worker.cache_clear()


def pool(rows, **more):
    return ScreenQuestion(Enumeration(element_list("Li,Na,K,Ca,Ti,O,F"), (2, 3), 3), (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),), rows=rows, **more)


def bytes_of(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).glob("pass-*/*"))}


def ranked(question, folder, outcome, top=100): return short_list(question, folder, outcome, top)[["formula", "number"]].values.tolist()


# what is left out

def test_filters_by_hand(quick, tmp_path):
    "All compounds of Ca and Ti with O and F, up to two atoms of each: what is left after each filter can be counted."
    space = Enumeration(element_list("Ca,Ti,O,F"), (2,), 2)  # 6 pairs with 3 amounts: 1:1, 1:2, 2:1
    block = space.block(np.arange(space.size))
    assert space.size == 18 and without(block, [20]).sum() == 9  # the pairs of the other three
    known = np.sort(composition_hashes(featurize(["TiO2", "Ti2O4", "CaO", "MgO"])))
    left = unknown(block.compositions(), known)
    assert sorted(f for f, new in zip(block.formulas(), left, strict=True) if not new) == ["CaO", "TiO2"]
    (path := tmp_path / "known.csv").write_text("formula\nTi2O4\nCaO\n")
    question = ScreenQuestion(space, (Named("gap", "band_gap_mp"),), without=tuple(element_list("F")), known=((str(path), files.sum_of(path)),), rows=5)
    outcome = screen(question, tmp_path / "s")
    assert outcome.counts == [{"tried": 18, "candidates": 18, "elements": 9, "unknown": 7}]


def test_neutral_by_hand():
    pytest.importorskip("smact")
    from lgdcnn.screening.filters import smact_charges
    space = Enumeration(element_list("Na,Cl"), (2,), 3)
    block = space.block(np.arange(space.size))
    assert [f for f, ok in zip(block.formulas(), smact_charges().neutral(block), strict=True) if ok] == ["NaCl"]


# cuts, passes and ties

@given(rows=st.integers(1, 400), top=st.integers(1, 40), order=st.randoms())
@settings(max_examples=8, deadline=None)
def test_the_best_do_not_depend_on_how_the_space_is_cut(rows, top, order):
    question = pool(rows)
    c = question.source.block(np.arange(question.source.size))
    values = Lengths().ask(c.compositions())["value(gap)"]
    cut = [{"number": c.numbers[a:a + rows], "value(gap)": values[a:a + rows]} for a in range(0, len(c), rows)]
    order.shuffle(cut)
    wanted = sorted(zip(-values.astype(float), c.numbers.tolist(), strict=True))[:top]  # ties by number
    assert len(set(values)) < len(values) / 2, "no ties, no test of ties"
    assert best(cut, question.aims[0], top)["number"].tolist() == [n for _, n in wanted]


def test_parts_of_a_run_are_the_whole(quick, tmp_path):
    question = pool(50)
    outcome = screen(question, tmp_path)
    every = np.concatenate([p["number"] for p in files.read_parts(tmp_path, 1, range(outcome.n_parts[0]))])
    assert every.tolist() == list(range(question.source.size)) and outcome.counts[0]["candidates"] == len(every)


def test_two_passes_ask_the_dear_model_about_the_best_only(quick, tmp_path):
    question = pool(50, first=(Named("gap", "band_gap_mp", "bf16"),), keep=20)
    outcome = screen(question, tmp_path)
    whole = best(files.read_parts(tmp_path, 1, range(outcome.n_parts[0])), question.aims[0], 20)
    assert outcome.counts[1]["candidates"] == 20
    assert ranked(question, tmp_path, outcome) == ranked(question, tmp_path, outcome, 20)
    assert sorted(n for _, n in ranked(question, tmp_path, outcome)) == sorted(whole["number"].tolist())


def test_a_table_is_read_in_parts_and_a_changed_stream_is_done_anew(quick, tmp_path):
    (path := tmp_path / "t.csv").write_text("formula\n" + "\n".join(["CaTiO3", "NaCl", "KF", "SrTiO3", "LiF"]))
    question = ScreenQuestion(Table(str(path), None, ""), (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),), rows=2)
    outcome = screen(question, tmp_path / "s")
    assert outcome.n_parts == (3,) and ranked(question, tmp_path / "s", outcome, 2) == [["SrTiO3", 3], ["NaCl", 1]]
    path.write_text(path.read_text().replace("KF", "CsI"))
    made = []
    again = screen(question, tmp_path / "s", lambda work, tasks: ((made.append(t.k), (t, work(t)))[1] for t in tasks))
    assert made == [1] and ranked(question, tmp_path / "s", again, 1) == [["CsI", 2]]


def test_a_bad_formula_names_its_row(tmp_path, quick):
    (path := tmp_path / "t.csv").write_text("formula\nCaTiO3\nNaCl\nXyz3\n")
    question = ScreenQuestion(Table(str(path), None, ""), (Named("gap", "band_gap_mp"),), rows=2)
    with pytest.raises(InputError, match="row 2"): screen(question, tmp_path / "s")


def test_rows_that_cannot_be_read_are_left_out_where_that_is_asked(quick, tmp_path):
    "The others have the numbers and answers of the table as it stands, and what a refusal had finished is kept."
    (path := tmp_path / "t.csv").write_text("\n".join(["formula,n", "CaTiO3,1", "NaCl,2", "sand,3", "KF,4,5", "mud,6", "SrTiO3,7", "LiF,8", "Xyz,9", "clay,10"]))
    question = ScreenQuestion(Table(str(path), None, files.sum_of(path)), (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),), rows=2)
    with pytest.raises(InputError, match="line"): screen(question, tmp_path / "s")
    path.write_text(path.read_text().replace("KF,4,5", "KF,4"))
    question = replace(question, source=Table(str(path), None, files.sum_of(path)))
    with pytest.raises(InputError, match=r"row 2: .*\(line 4\).*; --on-error skip goes on"): screen(question, tmp_path / "s")
    made = []
    outcome = screen(question, tmp_path / "s", lambda work, tasks: ((made.append(t.k), (t, work(t)))[1] for t in tasks), skip=True)
    assert made == [1, 2, 3, 4] and outcome.counts[0] == {"tried": 9, "candidates": 5}
    assert in_words(question, outcome).splitlines()[-1] == f"4 rows hold no formula that can be read, and were left out: `lgdcnn check {path}` lists them"
    (good := tmp_path / "g.csv").write_text("formula\nCaTiO3\nNaCl\nKF\nSrTiO3\nLiF\n")
    asked = replace(question, source=Table(str(good), None, files.sum_of(good)))
    expected = ranked(asked, tmp_path / "g", screen(asked, tmp_path / "g"))
    assert ranked(question, tmp_path / "s", outcome) == [[f, {0: 0, 1: 1, 2: 3, 3: 5, 4: 6}[n]] for f, n in expected]
    with pytest.raises(InputError, match=r"row 2: .*\(line 4\)"): screen(question, tmp_path / "s")  # what was skipped is refused again
    path.write_text(path.read_text().replace("KF,4", "KF,4,5"))
    question = replace(question, source=Table(str(path), None, files.sum_of(path)))
    with pytest.warns(UserWarning, match=r"left out: 1 row with more or fewer fields than the header \(line 5\)"):
        outcome = screen(question, tmp_path / "torn", skip=True)
    assert outcome.counts[0] == {"tried": 9, "candidates": 4}, "torn rows count, and have numbers"
    assert ranked(question, tmp_path / "torn", outcome) == [[f, {0: 0, 1: 1, 3: 5, 4: 6}[n]] for f, n in expected if n != 2]


def test_tables_whose_separator_is_not_clear(quick, tmp_path):
    "A comma and a semicolon stand in the header: the message names an option, and with it both tables are read."
    for name, rows in (("t", "NaCl;1,2\nKF;2,2\nLiF;3,2\n"), ("known", "FK;2,2\n")): (tmp_path / f"{name}.csv").write_text("formula;a,b\n" + rows)
    table, known = str(tmp_path / "t.csv"), str(tmp_path / "known.csv")
    ask = lambda **more: ScreenQuestion(Table(table, None, files.sum_of(table)), (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),),
                                        known=((known, files.sum_of(known)),), **more)
    with pytest.raises(InputError, match="not clear what separates its columns.*--separator"): screen(ask(), tmp_path / "s")
    question = ask(separator=";")
    assert [f for f, _ in ranked(question, tmp_path / "s", screen(question, tmp_path / "s"))] == ["NaCl", "LiF"]
    assert question.digest != ask().digest and "separator" not in ask().to_dict() and ScreenQuestion.from_dict(question.to_dict()) == question


@pytest.mark.parametrize("cell", [None, 7, ["NaCl"]])
def test_cells_of_a_parquet_that_are_no_text_are_bad_rows(cell, quick, tmp_path):
    pytest.importorskip("pyarrow")
    import pandas as pd
    cells = ["NaCl", None] if cell is None else [cell, cell]
    pd.DataFrame({"formula": cells}).to_parquet(path := tmp_path / "t.parquet")
    question = ScreenQuestion(Table(str(path), None, files.sum_of(path)), (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),))
    with pytest.raises(InputError, match="row"): screen(question, tmp_path / "s")
    assert screen(question, tmp_path / "s", skip=True).counts[0]["candidates"] == cells.count("NaCl")


def test_a_mended_table_keeps_its_other_parts(quick, tmp_path):
    "Its sum has changed and its path has not: what was finished is not done again, and the list is that of a new folder."
    path, rows = tmp_path / "t.csv", ["CaTiO3", "NaCl", "KF", "SrTiO3", "LiF", "sand"]
    ask = lambda: ScreenQuestion(Table(str(path), None, files.sum_of(path)), (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),), rows=2)
    path.write_text("\n".join(["formula", *rows]))
    with pytest.raises(InputError, match=r"row 5: .*\(line 7\)"): screen(ask(), tmp_path / "s")
    path.write_text("\n".join(["formula", *rows[:5], "SiO2"]))
    made = []
    outcome = screen(ask(), tmp_path / "s", lambda work, tasks: ((made.append(t.k), (t, work(t)))[1] for t in tasks))
    assert made == [2] and ranked(ask(), tmp_path / "s", outcome) == ranked(ask(), tmp_path / "n", screen(ask(), tmp_path / "n"))


def test_a_damaged_part_is_made_again(quick, tmp_path):
    "A bit is another on the disk: the next run makes the part anew, and a report in between says so instead of a number."
    question = pool(60)
    outcome = screen(question, tmp_path / "s")
    whole, path = bytes_of(tmp_path / "s"), sorted(Path(tmp_path / "s").glob("pass-1/*"))[1]
    rows = ranked(question, tmp_path / "s", outcome)
    for at in (10, 200, len(whole["pass-1/" + path.name]) // 2):
        damaged = bytearray(whole["pass-1/" + path.name])
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="part-0000001.*run the same again"): ranked(question, tmp_path / "s", outcome)
        assert ranked(question, tmp_path / "s", screen(question, tmp_path / "s")) == rows and bytes_of(tmp_path / "s") == whole


@pytest.mark.parametrize("share, n, kept", [(0.07, 100, 7), (0.14, 100, 14), (0.28, 100, 28), (0.55, 100, 55), (0.071, 100, 8), (0.001, 100, 1), (12, 100, 12)])
def test_a_share_is_what_is_written(share, n, kept, quick, tmp_path):
    "0.07 * 100 is 7.000000000000001 for a computer; seven are meant."
    (path := tmp_path / "t.csv").write_text("formula\n" + "\n".join(f"LiO{k}" for k in range(1, n + 1)))
    named, aims = (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),)
    question = ScreenQuestion(Table(str(path), None, files.sum_of(path)), named, aims, named, share)
    assert screen(question, tmp_path / "s").counts[1]["tried"] == kept


def test_known_compounds_whose_rows_cannot_all_be_read(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (known := Path("known.csv")).write_text("formula\nNaF\nD2O\nFK,1\n")
    question = pool(60, known=((str(known), files.sum_of(known)),))
    with pytest.raises(InputError, match="row 1: .*D2O.*--on-error skip passes over such rows"): screen(question, "s")
    with pytest.warns(UserWarning, match="'known.csv': 2 of 3 rows cannot be read, and were passed over"):
        outcome = screen(question, "s", skip=True)
    assert outcome.counts[0]["unknown"] == outcome.counts[0]["candidates"] - 1


def test_a_table_has_formulas_not_compositions_and_says_which_are_there_twice(tmp_path):
    (path := tmp_path / "t.csv").write_text("formula\nTi2O4\nTiO2\nLi2O\nTi0.333333333333333O0.666666666666667\n")
    question = ScreenQuestion(Table(str(path), None, files.sum_of(path)), (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),))
    outcome = screen(question, tmp_path / "s")
    assert in_words(question, outcome).startswith("4 numbers, 4 readable formulas; asked")
    table = short_list(question, tmp_path / "s", outcome)
    assert "2 of them are the composition of another one, written once more" in notes(question, tmp_path / "s", outcome, table)


def test_lines_of_bad_formulas_come_back_from_another_process():
    with pytest.raises(InputError) as e: run.candidates(None, Task(1, 0, 7, 8, None, ("sand",), np.array([12])))
    assert "row 7" in str(pickle.loads(pickle.dumps(e.value))) and "(line 12)" in str(pickle.loads(pickle.dumps(e.value)))


def test_what_is_refused_leaves_no_question_behind(quick, tmp_path, monkeypatch):
    "Run again without what was wrong, the same folder is free."
    monkeypatch.chdir(tmp_path)  # messages cut long paths
    (known := Path("known.csv")).write_text("formula\nNaCl\nsand\n")
    with pytest.raises(InputError, match=r"known.csv': row 1.*\(line 3\)"): screen(pool(60, known=((str(known), files.sum_of(known)),)), tmp_path / "s")
    (table := tmp_path / "t.csv").write_text("x\n1\n")
    with pytest.raises(InputError, match="no formula column"): screen(ScreenQuestion(Table(str(table)), (Named("gap", "band_gap_mp"),)), tmp_path / "s")
    assert not (tmp_path / "s").exists() and screen(pool(60), tmp_path / "s").finished


def test_progress_knows_how_much_there_is_in_each_pass(quick, tmp_path):
    "Parts that were asked for, and those that a first pass sends on; of what was there before nothing is said about the rate."
    told = []
    @contextmanager
    def progress(stage):
        told.append([stage, None, 0])
        def tell(done): told[-1][1:] = done.of, told[-1][2] + done.task.end - done.task.start
        yield tell
    question = pool(60, first=(Named("gap", "band_gap_mp", "bf16"),), keep=20)
    screen(question, tmp_path, only=range(2, 4), progress=progress)
    screen(question, tmp_path, progress=progress)
    assert told == [[1, 120, 120], [1, question.source.size, question.source.size], [2, 20, 20]]
    with command.progress_bar(None, False)(2) as tell:
        tell(Done(Task(1, 0, 0, 120), {}, None, 200))
        bar = tell.args[0]
        assert (bar.n, bar.initial, bar.total) == (120, 120, 200)  # the rate is (n - initial) over the time


# whoever dies

class Stopped(BaseException): "The process is killed here."


def test_killed_at_any_write_a_run_goes_on_with_the_same_bytes(quick, tmp_path, monkeypatch):
    "Half-written parts, wherever the writing stopped, are not read; nothing finished is done again."
    question = pool(60)
    whole = screen(question, tmp_path / "whole")
    wanted, plain = bytes_of(tmp_path / "whole"), os.replace
    for stop in range(1, len(wanted), 2):
        folder, moves = tmp_path / f"s{stop}", itertools.count()
        def dies(a, b, moves=moves, stop=stop):
            if next(moves) == stop: raise Stopped
            return plain(a, b)
        monkeypatch.setattr(os, "replace", dies)
        with pytest.raises(Stopped): screen(question, folder)
        monkeypatch.setattr(os, "replace", plain)
        assert len(before := bytes_of(folder)) == stop - 1  # the question is written first
        if before: part_path(folder, 1, 0).write_bytes(wanted["pass-1/part-0000000.parquet"][:-9])  # as without a rename
        made = []
        outcome = screen(question, folder, lambda work, tasks, made=made: ((made.append(t.k), (t, work(t)))[1] for t in tasks))
        assert bytes_of(folder) == wanted and outcome.counts == whole.counts
        assert made == [0, *range(max(1, stop - 1), len(wanted))]


def test_a_full_disk_is_one_line_and_what_is_finished_stays(quick, tmp_path, monkeypatch):
    question, plain, calls = pool(60), files.write_atomic, itertools.count()
    def full(path, content):
        if next(calls) == 3: raise OSError(errno.ENOSPC, "No space left on device")
        return plain(path, content)
    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(InputError, match="No space left on device.*what is finished is kept") as e: screen(question, tmp_path / "s")
    assert "\n" not in str(e.value) and len(bytes_of(tmp_path / "s")) == 2
    screen(question, tmp_path / "s")
    assert bytes_of(tmp_path / "s") == (screen(question, tmp_path / "w"), bytes_of(tmp_path / "w"))[1]


@pytest.mark.parametrize("number, remedy", [(errno.ENOSPC, "make room and run"), (errno.EACCES, "mend that, or name another folder")])
def test_the_remedy_belongs_to_the_fault(number, remedy):
    def write(): raise OSError(number, os.strerror(number))
    with pytest.raises(InputError, match=remedy): files.storing(Path("s"), write)


def test_a_worker_that_writes_elsewhere_is_noticed(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "SEEN", 0.1)
    elsewhere = lambda work, tasks: ((t, ({}, {})) for t in tasks)
    with pytest.raises(InputError, match="not seen from here"): screen(pool(60), tmp_path / "s", elsewhere)


# the real thing: processes

@pytest.fixture(scope="module")
def titanates(tmp_path_factory):
    "A screening of titanates by the model of the package, in one process."
    pattern = Template.of("A1-xA'xTiO3", {s: element_list("alkaline,La,Ce,Y") for s in ("A", "A'")}, "0:0.5:0.125")
    question = ScreenQuestion(pattern, (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),), rows=10)
    folder = tmp_path_factory.mktemp("titanates") / "s"
    return question, bytes_of(folder), ranked(question, folder, screen(question, folder)), bytes_of(folder)


def alive(pid):
    try: return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError: return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_one_of_two_processes_is_killed_then_the_command_and_a_rerun_has_the_bytes_of_one_process(titanates, tmp_path):
    "Parts go on without the process; the command's workers leave with it; run again, it finishes with the same parts and top 100."
    question, _, top, wanted = titanates
    lists = "Be,Mg,Ca,Sr,Ba,La,Ce,Y"
    words = ["screen", str(tmp_path / "s"), "--pattern", "A1-xA'xTiO3", "--site", f"A={lists}", "--site", f"A'={lists}", "--x", "0:0.5:0.125",
             "--rows", "10", "--model", "gap=band_gap_mp", "--max", "gap", "--quiet"]
    process = subprocess.Popen([sys.executable, "-c", "from lgdcnn.cli import main; main()", *words, "--workers", "2"], stderr=subprocess.PIPE)
    children = lambda: {int(k) for k in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()}
    end = time.monotonic() + 120
    def wait_for(condition, said="nothing happened"):
        while not condition():
            assert time.monotonic() < end, said
            time.sleep(0.02)
    begun = lambda n: len(bytes_of(tmp_path / "s")) >= n or process.poll() is not None
    wait_for(lambda: begun(1))
    first = children()
    victim = max(first)  # begun last, so no helper of the pool
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: process.poll() is not None or children() - first, "nobody took the place of the one that was killed")
    assert process.poll() is None, process.stderr.read().decode()
    left = children() - {victim}
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(alive, left)), "workers outlive their owner")
    assert len(bytes_of(tmp_path / "s")) < len(wanted)
    told = CliRunner().invoke(main, [*words, "--workers", "1"])
    assert told.exit_code == 0, told.stderr
    assert bytes_of(tmp_path / "s") == wanted and len(wanted) >= 30
    assert json.loads((tmp_path / "s/summary.json").read_text())["parts"] == [len(wanted)]
    with open(tmp_path / "s/top.csv") as f: rows = list(csv.DictReader(f))
    assert [[r["formula"], int(r["number"])] for r in rows] == top


# who is asked

def some(n=40):
    space = Enumeration(element_list("Li,Na,Ca,Ti,O,F"), (2, 3), 2)
    return space.block(np.arange(n)).compositions()


def test_an_element_that_one_of_the_models_never_saw_is_unseen():
    both = [Answers([read_named(n)]) for n in ("gap=band_gap_mp", "theta=debye_temperature")]
    lacking = [np.flatnonzero(~a.seen) for a in both]
    z = int(next(z for z in set(lacking[0]) ^ set(lacking[1]) if z))  # known to one of them
    c = featurize(["NaCl", SYMBOLS[z] + "O2"])
    assert sorted(a.ask(c)["unseen"].tolist() for a in both) == [[False, False], [False, True]]
    for more in ("", "@bf16"):  # asked together, or each by itself
        assert Answers([read_named("gap=band_gap_mp" + more), read_named("theta=debye_temperature")]).ask(c)["unseen"].tolist() == [False, True]


def test_half_precision_is_half_precision(tmp_path):
    model = LGDCNNRegressor(MODELS["lstm"].replace(d_model=32), epochs=2, verbose=False, device="cpu")
    path = model.fit([f"Na{i}Cl{j}" for i in range(1, 6) for j in range(1, 7)], np.linspace(0, 3, 30), validation=0.4).save(tmp_path / "m.lgdcnn")
    for what in ("gap=band_gap_mp", f"gap={path}"):
        full, half = (Answers([read_named(what + more)]).ask(some())["value(gap)"] for more in ("", "@bf16"))
        assert 0 < np.abs(full - half).max() < 0.1, what


def test_a_fused_model_answers_as_it_predicts(tmp_path):
    pytest.importorskip("lightgbm")
    formulas = [f"{a}{i}{b}{j}" for a in ("Na", "Ca", "Ti") for b in ("O", "F") for i in (1, 2, 3) for j in (1, 2, 3, 4)]
    fused = FusedRegressor((Member("trees-l1", n_trees=8), Member("lstm", width=16, epochs=1)), device="cpu", verbose=False)
    fused.fit(formulas, np.sin(np.arange(len(formulas)) / 5.0), validation=0.3).save(path := tmp_path / "f.lgdcnn")
    question = ScreenQuestion(Enumeration(element_list("Na,Ca,Ti,O,F"), (2, 3), 3), (read_named(f"y={path}"),), (read_aim("max", "y"),), rows=60)
    table = short_list(question, tmp_path / "s", screen(question, tmp_path / "s"), 20)
    assert table["value(y)"].to_numpy() == pytest.approx(fused.predict(table["formula"].tolist()), abs=1e-5) and len(table) == 20
    ends = fused.predict_interval(table["formula"].tolist(), 0.9)
    assert table[["lower(y)", "upper(y)"]].to_numpy() == pytest.approx(ends, abs=1e-5)


def test_formulas_come_from_standard_input(tmp_path):
    words = ["screen", str(tmp_path / "s"), "--csv", "-", "--model", "gap=band_gap_mp", "--max", "gap", "--rows", "2", "--workers", "1", "--quiet"]
    told = CliRunner().invoke(main, words, input="formula\nCaTiO3\nNaCl\nKF\nFe\nMgO\n")
    assert told.exit_code == 0, told.output
    with open(tmp_path / "s/top.csv") as f: rows = list(csv.DictReader(f))
    expected = pretrained_values(["CaTiO3", "NaCl", "KF", "Fe", "MgO"])
    assert [r["formula"] for r in rows] == sorted(expected, key=expected.get, reverse=True) and len(list((tmp_path / "s/pass-1").iterdir())) == 3


def pretrained_values(formulas):
    return dict(zip(formulas, Answers([read_named("gap=band_gap_mp")]).ask(featurize(formulas))["value(gap)"].tolist(), strict=True))


def test_a_part_is_made_with_one_thread_whatever_the_process_has(quick, tmp_path, monkeypatch):
    "Sums of several threads come in another order, and results would depend on the machine."
    import torch
    seen, before = set(), torch.get_num_threads()
    ask = Lengths.ask
    monkeypatch.setattr(Lengths, "ask", lambda self, c: seen.add(torch.get_num_threads()) or ask(self, c))
    torch.set_num_threads(3)
    try:
        screen(pool(400), tmp_path / "s")
        assert seen == {1} and torch.get_num_threads() == 3
    finally: torch.set_num_threads(before)


def test_memory_of_a_rerun_does_not_grow_with_the_table(quick, tmp_path):
    "Parts that are there are passed over; of each only its numbers are kept."
    peaks = []
    for n in (10_000, 40_000):
        (path := tmp_path / f"{n}.csv").write_text("formula\n" + "\n".join(f"Li{1 + i % 200}O{1 + i // 200}F" for i in range(n)) + "\n")
        question = ScreenQuestion(Table(str(path), None, files.sum_of(path)), (Named("gap", "band_gap_mp"),), (read_aim("max", "gap"),), rows=500)
        screen(question, tmp_path / str(n))
        tracemalloc.start()
        try: assert screen(question, tmp_path / str(n)).counts[0]["candidates"] == n
        finally: peaks.append(tracemalloc.get_traced_memory()[1]), tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def test_a_folder_whose_question_is_seen_late_is_waited_for(quick, tmp_path, monkeypatch):
    "On a shared disk a job of an array may see the parts of another before it sees the question."
    question = pool(60)
    screen(question, tmp_path / "s")
    text = (manifest := tmp_path / "s/screen.json").read_text()
    manifest.unlink()
    threading.Timer(0.4, lambda: manifest.write_text(text)).start()
    screen(question, tmp_path / "s")
    manifest.unlink()
    monkeypatch.setattr(engines, "SEEN", 0.2)
    with pytest.raises(InputError, match="holds something else"): screen(question, tmp_path / "s")


# what is refused, in one line

REFUSED = [
    (["--max", "colour"], "no model answers for it"), (["--above", "gap"], "like gap=2"), (["--csv", "t.csv"], "one of the three"),
    (["--coverage", "2"], "between 0 and 1"), (["--known", "gone.csv"], "cannot read"), (["--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], "leave --workers out"),
    (["--parts", "x"], "write it like 0:100"), (["--model", "gone.lgdcnn"], "no model file"), (["--model", "gap=debye_temperature"], "two models"),
    (["--workers", "0"], "at least 1"), (["--site", "C=Ca"], "no site C"), (["--site", "A=Rb"], "names a site twice"),
    (["--top", "0"], "not in the range"), (["--rows", "0"], "not in the range"), (["--rows", "9000000000"], "not in the range"),
    (["--keep", "nan"], "share between 0 and 1"), (["--keep", "inf"], "share between 0 and 1"), (["--keep", "1.5"], "or a whole number"),
    (["--parts", "5:2"], "write it like 0:100"), (["--parts=-1:2"], "write it like 0:100"), (["--x", "1:0:0.1"], "cannot read the steps"),
    (["--x", "0:1:1e-9"], "are 1,000,000,001: 1,000 at most"), (["--x", "0.000000001"], "has amounts up to"), (["--atoms", "0"], "not in the range"),
    (["--above", "gap=nan"], "a threshold, like gap=2"), (["--atoms", "9"], "belongs to --elements"), (["--sizes", "2"], "belongs to --elements"),
    (["--formula", "x"], "belongs to --csv"), (["--keep", "0.5"], "belongs to --first"), (["--scheduler", ""], "--scheduler is empty"),
    (["--above", "gap=inf"], "a threshold, like gap=2"), (["--inside", "gap=2"], "a window, like"),
    (["--separator", "tab"], "belongs to --csv or --known"), (["--on-error", "skip"], "belongs to --csv or --known"), (["--separator", "two"], "'two' is no single sign, nor one of comma"),
    (["--max", "e", "--model", "e=formation_enthalpy_mp", "--first", "gap=band_gap_mp@bf16"], "no model of --first answers for it; there are gap")]


@pytest.mark.parametrize("more, said", REFUSED)
def test_what_cannot_be_meant_is_one_line(more, said, tmp_path):
    once = more[0] in ("--x", "--rows")  # instead of what is asked
    ask = [w for k, w in enumerate(ASK) if not (once and more[0] in ASK[max(0, k - 1):k + 1])]
    told = CliRunner().invoke(main, ["screen", str(tmp_path / "s"), *ask, *more])
    assert told.exit_code == 2 and told.stdout == "" and said in told.stderr and len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize("sizes", ["5-2", "2-3-4", "", "a"])
def test_sizes_that_cannot_be_meant(sizes, tmp_path):
    told = CliRunner().invoke(main, ["screen", str(tmp_path / "s"), "--elements", "Na,Cl,O", "--sizes", sizes, "--model", "band_gap_mp"])
    assert told.exit_code == 2 and "write it like 2-4" in told.stderr and len(told.stderr.splitlines()) == 1


def test_whoever_stops_it_is_told_that_it_goes_on(tmp_path, monkeypatch):
    def stopped(*rest): raise KeyboardInterrupt
    monkeypatch.setattr(run, "screen", stopped)
    told = CliRunner().invoke(main, ["screen", str(tmp_path / "s"), *ASK])
    assert told.exit_code == 1 and "what is finished is kept, and the same command goes on" in told.stderr


def test_a_list_of_known_compounds_without_formulas(quick, tmp_path):
    (path := tmp_path / "known.csv").write_text("x\n1\n")
    with pytest.raises(InputError, match="no formula column"): screen(pool(60, known=((str(path), files.sum_of(path)),)), tmp_path / "s")


@pytest.mark.parametrize("text", ["[1]", "3", "", "{}", "null"])
def test_what_says_of_itself_that_it_is_a_screening_and_is_none(text, quick, tmp_path):
    (tmp_path / "screen.json").write_text(text)
    with pytest.raises(InputError, match="name another folder") as e: screen(pool(60), tmp_path)
    assert "\n" not in str(e.value)


def test_a_part_of_a_space_without_end_is_found_at_once():
    "Nobody goes through the parts before it, nor through those behind."
    question = ScreenQuestion(Enumeration(element_list("all"), (2, 3, 4, 5), 4), (Named("gap", "band_gap_mp"),), rows=50)
    n = -(-question.source.size // 50)
    assert n > 10 ** 9
    assert [t[:4] for t in run.first_tasks(question, range(n - 1, n + 9))] == [(1, n - 1, 50 * (n - 1), question.source.size)]
    assert [t.k for t in run.first_tasks(question, range(7, 9))] == [7, 8]


def test_a_disk_that_is_full_when_the_report_is_written(quick, tmp_path, monkeypatch):
    question = pool(60)
    outcome = screen(question, tmp_path)
    def full(path, content): raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(command, "write_atomic", full)
    with pytest.raises(InputError, match="No space left.*what is finished is kept"): command.write_report(question, tmp_path, outcome, 5)


def test_another_version_in_the_folder(quick, tmp_path):
    screen(pool(60), tmp_path)
    (path := tmp_path / "screen.json").write_text(path.read_text().replace(f'"version": "{__version__}"', '"version": "0.0.1"'))
    with pytest.raises(InputError, match=r"holds another question \(version is '0.0.1' there"): screen(pool(60), tmp_path)
    assert screen(pool(60), tmp_path / "new", in_turn).finished


def test_only_some_parts(quick, tmp_path):
    question = pool(60)
    halves = [screen(question, tmp_path, only=range(*cut)) for cut in ((4, 99), (0, 4))]
    assert [h.finished for h in halves] == [False, False] and halves[1].n_parts == (4,)
    assert screen(question, tmp_path, lambda work, tasks: [pytest.fail("made again") for t in tasks]).finished
    assert Task(1, 0, 0, 60).digest(question) == question.digest
