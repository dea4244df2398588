"From a messy table and 5,000 candidates to a report: seven commands, as a user types them."
import io
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from lgdcnn.cli import main
from lgdcnn.composition import composition_keys
from lgdcnn.fusion.members import PRESETS, Member

pytest.importorskip("lightgbm")
BAD = ("Fe2Ox", "Sn(IV)O2", "unobtainium", '"Cu0,65Zn0.35"', "20Na2O-80SiO2")


def run(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.stdout, r.stderr


def messy(formulas, y) -> str:
    "Write 300 rows: 281 compounds, 10 of them twice, two blanks, two values missing, five formulas that are none, a column too many."
    rows = [f"{f},{v:.4g},lab {k % 3}" for k, (f, v) in enumerate(zip(formulas[:281], y[:281], strict=True))]
    rows += [f"{f},{v + 0.1:.4g},again" for f, v in zip(formulas[:10], y[:10], strict=True)]
    rows += [",,", ",-1.5,blank", f"{formulas[281]},,lost", f"{formulas[282]},n/a,lost", *(f"{f},-1,notebook" for f in BAD)]
    order = np.random.default_rng(0).permutation(len(rows))
    return "\r\n".join(["Compound formula,enthalpy,remark", *(rows[i] for i in order)]) + "\r\n"


def candidates(n: int = 5000) -> list[str]:
    "Make up compounds of two metals and a nonmetal."
    rng, found = np.random.default_rng(0), set()
    metals, others = "Li Na K Mg Ca Sr Ba Al Y La Ti Zr V Cr Mn Fe Co Ni Cu Zn".split(), "O S F Cl".split()
    while len(found) < n:
        (a, b), (i, j, k) = rng.choice(metals, 2, replace=False), rng.integers(1, 4, 3)
        found.add(f"{a}{i}{b}{j}{rng.choice(others)}{k}")
    return sorted(found)


@pytest.fixture
def folder(tmp_path, embedded, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "trees", (Member("trees-l2", n_trees=100, features="magpie"),))
    (tmp_path / "messy.csv").write_bytes(messy(*embedded.part("train")).encode())
    (tmp_path / "candidates.csv").write_text("\n".join(["formula", *candidates()]))
    return tmp_path


def test_seven_commands_lead_from_a_spreadsheet_to_a_report(folder):
    code, out, err = run("check", "messy.csv", "--target", "enthalpy")
    assert code == 1 and "10 problems in 9 rows that training refuses:" in out and "10 rows to look at:" in out, out
    for formula in BAD: assert formula.strip('"')[:9] in out
    assert "columns that are not used: 'remark'" in out and out.endswith("300 rows, 291 can be used: 281 compositions; 9 can be skipped with --on-error skip\n")

    skip, unit = ("--on-error", "skip"), ("--unit", "eV/atom")
    assert run("train", "messy.csv", "--target", "enthalpy", "--out", "model.lgdcnn")[0] == 2  # by default bad rows are refused
    code, out, err = run("compare", "messy.csv", "--target", "enthalpy", "--quick", *unit, *skip, "--rejects", "bad.csv", "--out", "comparison.csv")
    assert code == 0 and "skipped 9 of 300 rows" in err and "lgdcnn train --architecture trees" in out, err
    assert "In full: lgdcnn train messy.csv --target enthalpy --unit eV/atom --architecture trees --on-error skip --out model.lgdcnn\n" in out, out
    bad = pd.read_csv("bad.csv", keep_default_na=False)
    assert len(bad) == 9 and {f.strip('"') for f in BAD} <= {*bad["Compound formula"]}

    code, out, err = run("train", "messy.csv", "--target", "enthalpy", "--architecture", "trees", *unit, *skip, "--quiet", "--out", "model.lgdcnn")
    assert code == 0 and re.match(r"validation MAE [\d.]+ eV/atom \(fused; mean [\d.]+ eV/atom, boosting [\d.]+ eV/atom\)", out), err

    code, out, err = run("predict", "model.lgdcnn", "--csv", "candidates.csv", "--check", "model", "--quiet", "--out", "predicted.csv")
    predicted = pd.read_csv("predicted.csv")
    assert code == 0 and len(predicted) == 5000 and {"lower", "upper", "outside", "nearest"} <= {*predicted}, err

    wish = ("--lowest", "--by", "bound", "--neutral", "--new", "--n", 20)
    code, out, err = run("rank", "predicted.csv", *wish, "--format", "csv")
    best = pd.read_csv(io.StringIO(out))
    assert code == 0 and len(best) == 20 and best["upper"].is_monotonic_increasing and not best["outside"].any(), err
    assert len(set(composition_keys(best["formula"]))) == 20

    code, out, err = run("explain", "model.lgdcnn", best["formula"][0])
    assert code == 0 and "eV/atom, 90 % interval" in err and "effect" in out
    code, out, err = run("show", "model.lgdcnn")
    assert code == 0 and "for --check model" in out and "eV/atom" in out

    code, out, err = run("report", "model.lgdcnn", "--data", "messy.csv", "--comparison", "comparison.csv", "--candidates", "predicted.csv", *wish,
                         "-o", "report.html")
    page = (folder / "report.html").read_text()
    assert code == 0 and "20 of 5,000 candidates" in page and "class=\"missing\"" not in page, err
    assert all(f">{f}</th>" in page for f in best["formula"]) and not re.search("https?:|<script", page)
    assert re.search("lgdcnn report model.lgdcnn .* --comparison comparison.csv --out report.html", page)
    assert "lgdcnn rank predicted.csv --n 20 --by bound --apart 0.5 --lowest --new --neutral" in page
