"All problems of a table in one go, and training and prediction that go on without them when they are told to."
import io

import pandas as pd
import pytest
from conftest import run

from lgdcnn import InputError
from lgdcnn.shortlist.check import check_table, in_words, joined, refuse, rejected, row_problems, unreadable

MESSY = """Formula;gap;source
NaCl;8,5;a
Fe2Ox;2,0;b
KCl;;c
ClNa;8,9;d
LiF;13,6
NaCl;8,5;a
MgO;7,8 eV;q
"""
TINY = ("--architecture", "dcnn-k1", "--epochs", "1", "--validation", "0", "--quiet")


@pytest.fixture
def messy(tmp_path):
    (tmp_path / "messy.csv").write_text(MESSY)
    return tmp_path / "messy.csv"


def test_every_problem_has_its_line_value_and_remedy(messy):
    found = check_table(messy, ("gap",))
    errors, notes = found.of_level("error"), found.of_level("note")
    assert errors[["line", "column", "value"]].values.tolist() == [
        [3, "Formula", "Fe2Ox"], [4, "gap", ""], [6, "", "LiF;13,6"], [8, "gap", "7,8 eV"]]
    assert "'Ox' is not an element" in errors["problem"].iloc[0] and errors["problem"].iloc[1] == "gap is missing"
    assert errors["problem"].iloc[3] == "gap is '7,8 eV', not a finite number (write numbers alone: the unit goes to --unit)" and (found.problems["remedy"] != "").all()
    assert notes["problem"].tolist() == ["the same compound as line 2, 8.5 there and 8.9 here", "the same compound and value as line 2"]
    assert found.good.tolist() == [0, 3, 4] and "columns that are not used: 'source'" in found.notes


def test_more_bad_formulas_than_a_message_holds():
    assert unreadable(["NaCl", *["Xx"] * 2100, "KCl"]).keys() == {*range(1, 2101)}
    found = check_table(io.BytesIO(("formula,y\n" + "Xx,1\n" * 25).encode()), ("y",))
    assert in_words(found)[21] == "and 5 more"
    with pytest.raises(InputError, match=r"^line 2: 'Xx', .*; and 5 more: mend or drop them, or go on without them with --on-error skip$"):
        refuse(found)


def test_a_blank_among_several_targets_is_no_error():
    table = pd.DataFrame({"formula": ["NaCl", "KCl", "LiF"], "a": ["1", "", ""], "b": ["2", "3", ""]})
    errors, values = row_problems(table, "formula", ("a", "b"))
    assert errors["row"].tolist() == [2, 2] and values["b"][1] == 3


def test_parts_of_a_table_count_on(messy):
    whole = check_table(messy, ("gap",))
    halves = [whole.table[:3], whole.table[3:].reset_index(drop=True)]
    lines = [whole.lines[:3], whole.lines[3:]]
    from lgdcnn.shortlist.check import Checked
    parts = [Checked(t, row_problems(t, "Formula", ("gap",), lines=n, separator=";")[0], "Formula", ("gap",), lines=n)
             for t, n in zip(halves, lines, strict=True)]
    assert joined(parts).bad.tolist() == whole.bad.tolist() == [1, 2, 5]
    assert rejected(joined(parts))["line"].tolist() == [3, 4, 8]


def test_the_command_names_them_all_and_says_so_by_its_exit_code(messy, tmp_path):
    code, out, err = run("check", messy, "--target", "gap")
    assert code == 1 and not err and out.startswith("4 problems that training refuses:\nline 3: Formula 'Fe2Ox': 'Ox' is not an element")
    assert out.endswith("7 rows, 3 can be used: 1 composition; 4 can be skipped with --on-error skip\n")
    (tmp_path / "two.csv").write_text("formula,gap\nNaCl,1\n,\nMgO,2\n")
    assert run("check", tmp_path / "two.csv", "--target", "gap")[1].startswith("2 problems in 1 row that training refuses:\nline 3")
    assert run("check", messy, "--target", "gap", "--out", tmp_path / "p.csv")[0] == 1
    assert pd.read_csv(tmp_path / "p.csv")["line"].tolist() == [3, 4, 5, 6, 7, 8]
    (tmp_path / "good.csv").write_text("formula,y\n" + "".join(f"NaCl{k},{k}\n" for k in range(1, 120)))
    assert run("check", tmp_path / "good.csv", "--target", "y") == (0, "119 rows, 119 can be used: 119 compositions\n", "")


def test_training_refuses_faults_of_all_kinds_in_one_message(messy, tmp_path):
    code, out, err = run("train", messy, "--target", "gap", "--out", tmp_path / "m", *TINY)
    assert (code, out) == (2, "") and not (tmp_path / "m").exists()
    assert all(f"line {n}: " in err for n in (3, 4, 6, 8)) and "go on without them with --on-error skip" in err


def test_training_and_prediction_skip_what_they_are_told_to(messy, tmp_path):
    code, _, err = run("train", messy, "--target", "gap", "--out", tmp_path / "m", "--on-error", "skip", "--rejects", tmp_path / "bad.csv", *TINY)
    assert code == 0 and "skipped 4 of 7 rows:\nline 3: Formula 'Fe2Ox'" in err
    bad = pd.read_csv(tmp_path / "bad.csv", keep_default_na=False)
    assert bad["line"].tolist() == [3, 4, 6, 8] and "is not an element" in bad["problem"][0] and bad["gap"][3] == "7,8 eV"
    for chunk in (2, 100):
        code, out, err = run("predict", tmp_path / "m", "--csv", messy, "--format", "csv", "--quiet", "--chunk", chunk, "--on-error", "skip",
                             "--rejects", tmp_path / "bad2.csv")
        assert code == 0 and "skipped 2 of 7 rows:" in err and len(pd.read_csv(io.StringIO(out))) == 5
        assert pd.read_csv(tmp_path / "bad2.csv")["line"].tolist() == [3, 6]


def test_what_does_not_go_together_is_refused(messy, tmp_path):
    for args in (("train", messy, "--target", "gap", "--out", tmp_path / "m"), ("predict", tmp_path / "m", "NaCl")):
        code, _, err = run(*args, "--rejects", tmp_path / "b.csv")
        assert code == 2 and "--rejects goes with --on-error skip: give both, or neither" in err
    code, _, err = run("train", messy, "--target", "gap", "--out", tmp_path / "m", "--on-error", "skip", "--rejects", messy)
    assert code == 2 and messy.read_text() == MESSY
    code, _, err = run("train", "exp_formation_enthalpy", "--out", tmp_path / "m", "--on-error", "skip")
    assert code == 2 and "no row is bad" in err
    (tmp_path / "none.csv").write_text("formula,y\nXx,1\nKCl,\n")
    for args in (("train", tmp_path / "none.csv", "--target", "y", "--out", tmp_path / "m"),):
        assert "no row can be used: `lgdcnn check` says why" in run(*args, "--on-error", "skip")[2]


@pytest.mark.parametrize("rows, words", [
    (["NaCl,3.2 eV", "KCl,8.4eV", "LiF,1"], "gap is '3.2 eV', not a finite number (write numbers alone: the unit goes to --unit)"),
    (["NaCl,3", "KCl,3", "LiF,3"], "gap is 3 in all rows: nothing can be learned"), (["NaCl,3"], "row that can be used: 1; 90 % intervals need 9"),
    ([f"Na{k}Cl,{k}" for k in range(1, 46)], "train with --validation 0.25, or find more rows"), (["NaCl,inf"], "is 'inf', not a finite number;"),
])
def test_small_and_odd_tables_are_told_what_to_do(rows, words, tmp_path):
    (tmp_path / "t.csv").write_text("\r\n".join(["formula,gap", *rows]) + "\r\n")
    from click.testing import CliRunner

    from lgdcnn.cli import main
    r = CliRunner().invoke(main, ["check", str(tmp_path / "t.csv"), "--target", "gap"])
    assert words in r.stdout, r.stdout
    if len(rows) == 1 and "inf" not in rows[0]:
        r = CliRunner().invoke(main, ["compare", str(tmp_path / "t.csv"), "--target", "gap", "--quick", "--model", "mean"])
        assert r.exit_code == 2 and "1 rows are too few to compare models" in r.stderr
