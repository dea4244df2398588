"The report is one file that needs no network, says every number with its unit, and names the command for what it lacks."
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from lgdcnn import InputError
from lgdcnn.cli import main
from lgdcnn.shortlist.check import check_table
from lgdcnn.shortlist.compare import cross_validate
from lgdcnn.shortlist.evidence import Sources
from lgdcnn.shortlist.page import Section, Table, render
from lgdcnn.shortlist.report import chosen_how, training_words
from lgdcnn.shortlist.unseen import coverage_table, judged, unseen_rows

UNIT = "eV/atom"


def run(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.stdout, r.stderr


class Page(HTMLParser):
    "Gather headings, tables and pictures, and check that what is opened is closed."
    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.links, self.alts, self.headings, self.text = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.links += [given[k] for k in ("href", "src") if k in given]
        if tag == "img": self.alts.append(given["alt"])
        if tag in ("meta", "img"): return
        self.open.append(tag)
        if tag == "table": self.tables.append({"caption": "", "head": [], "rows": []})
        if tag == "tr" and "tbody" in self.open: self.tables[-1]["rows"].append([])
        if tag in ("th", "td"): (self.tables[-1]["rows"][-1] if "tbody" in self.open else self.tables[-1]["head"]).append("")

    def handle_endtag(self, tag): assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)
        if not self.open: return
        if self.open[-1] == "caption": self.tables[-1]["caption"] += data
        if self.open[-1] in ("h1", "h2"): self.headings.append((self.open[-1], data))
        if self.open[-1] in ("th", "td"):
            row = self.tables[-1]["rows"][-1] if "tbody" in self.open else self.tables[-1]["head"]
            row[-1] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fitted, embedded):
    folder = tmp_path_factory.mktemp("report")
    formulas, y = (list(a[:300]) for a in embedded.part("train"))
    lines = [f"{f},{v:.6g},x" for f, v in zip(formulas, y, strict=True)]
    (folder / "train.csv").write_text("\n".join(["formula,hf,remark", *lines, "Fe2Ox,1,<b>odd</b>", "NaCl,oops,"]) + "\n")
    (folder / "asked.csv").write_text("\n".join(["formula", *embedded.part("test")[0][:80]]))
    fitted.target_ |= {"name": "hf", "unit": UNIT}
    fitted.save(folder / "m.lgdcnn")
    cross_validate(formulas, y, ("mean", "nearest-neighbour"), 3).to_csv(folder / "cv.csv", index=False)
    fitted.target_ |= {"name": "", "unit": ""}
    return folder


@pytest.fixture(scope="module")
def page(folder):
    code, out, err = run("report", folder / "m.lgdcnn", "--data", folder / "train.csv", "--candidates", folder / "asked.csv", "--lowest",
                         "--comparison", folder / "cv.csv", "--n", 7, "-o", folder / "r.html")
    assert code == 0 and out == "" and "saved" in err, err
    return (folder / "r.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(page):
    found = Page(page)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in found.links) and len(found.alts) == 6
    assert all(len(alt) > 10 for alt in found.alts) and all(t["caption"] for t in found.tables)
    assert not re.search(r"<script|https?:|@import|url\(", page) and 'lang="en"' in page and "viewport" in page
    assert {link[1:] for link in found.links if link.startswith("#")} == set(re.findall(r'section id="(\w+)"', page))
    assert [h for h, _ in found.headings] == ["h1"] + ["h2"] * 7


def test_every_number_has_its_unit(page):
    units = (f"({UNIT})", "(steps)", "(s)", "rank", "line of the file", "rows", "digits")
    bare = []
    for table in Page(page).tables:
        for k, name in enumerate(table["head"]):
            for row in table["rows"]:
                number = re.fullmatch(r"[-+±]? ?[\d.,]+", row[k])
                counts = re.match(r"rows|different|seed|smallest|validation R2|elements|lgdcnn|numpy|[a-z-]+$|Python", row[0])
                if number and not any(u in name for u in units) and not counts: bare.append((name, row))
    assert not bare
    said = " ".join(Page(page).text)
    assert re.search(rf"Mean absolute error [\d.]+ {UNIT} on 60 rows", said)


def test_the_numbers_are_those_of_the_model(page, fitted, embedded, folder):
    tables = {t["caption"]: t for t in Page(page).tables}
    best = tables["The shortlist: 7 candidates"]
    expected = fitted.rank(list(embedded.part("test")[0][:80]), 7, lowest=True)
    assert [r[0] for r in best["rows"]] == expected["formula"].tolist()
    assert [float(r[2].replace(",", "")) for r in best["rows"]] == pytest.approx(expected["prediction"].tolist(), rel=2e-3)
    known = dict(tables["The table of measurements"]["rows"])
    assert known["rows of the table"] == "302" and known["rows that can be used"] == "300" and known["lowest"].endswith(UNIT)
    assert {r[0] for r in tables["Refused, or skipped"]["rows"]} == {"302", "303"} and "&lt;b&gt;" not in tables
    assert "lgdcnn train train.csv --target hf --unit eV/atom --on-error skip" in page and "<b>odd" not in page
    assert f"{fitted.metrics_['mae']:.4g} {UNIT}" in page


def test_held_out_rows_are_found_without_the_split(fitted, embedded):
    formulas, y = (a[:300] for a in embedded.part("train"))
    rows = unseen_rows(fitted, formulas)
    assert len(rows) == len(fitted.scores_) and np.abs(fitted.predict(formulas[rows]) - y[rows]).mean() == pytest.approx(fitted.metrics_["mae"], rel=1e-5)


def test_no_row_has_a_say_in_its_own_interval():
    formulas = [f"Na{k}Cl" for k in range(1, 41)]
    fold, mean, std, y = np.repeat([0, 1], 20), np.zeros(40), np.ones(40), np.arange(40) % 20 + 1.0
    y[:20] *= 10
    table = judged(formulas, y, mean, std, fold)
    assert (table["upper"][:20] == 19).all() and (table["upper"][20:] == 190).all()
    found = coverage_table(formulas, y, mean, std, fold).set_index("promised")
    assert found.loc[0.9, "found"] == (np.sum(y[:20] <= 19) + 20) / 40 and found.loc[0.9, "n"] == 40


def test_what_is_missing_names_the_command(folder, tmp_path):
    code, _, err = run("report", folder / "m.lgdcnn", "-o", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert code == 0, err
    for words in ("--data TRAIN.csv adds it", "lgdcnn compare TRAIN.csv --target hf --out comparison.csv", "--compare compares quickly",
                  "--candidates CANDIDATES.csv adds domain and shortlist", "There is no shortlist yet"): assert words in text, words


@pytest.mark.parametrize("args, words", [
    (("{}/nothing.lgdcnn",), "there is no model file"), (("{}/train.csv",), "no model file, or damaged"),
    (("{}/m.lgdcnn", "--data", "{}/none.csv"), "there is no file"), (("{}/m.lgdcnn", "--data", "{}/train.csv", "--target", "gap"), "no target column 'gap'"),
    (("{}/m.lgdcnn", "--comparison", "{}/train.csv"), "is no comparison: `lgdcnn compare"),
    (("{}/m.lgdcnn", "--candidates", "{}/empty.csv"), "has no rows"),
    (("{}/m.lgdcnn", "--candidates", "{}/asked.csv", "--by", "chance"), "a chance needs a limit"),
    (("{}/m.lgdcnn", "--compare"), "give --data"), (("{}/m.lgdcnn", "--compare", "--comparison", "{}/cv.csv", "--data", "{}/train.csv"), "give one"),
    (("{root}/tests/files/format2-classifier.safetensors",), "a report is about a model of one number"),
])
def test_bad_input_is_one_line(args, words, folder, root, tmp_path):
    (folder / "empty.csv").write_text("formula,prediction\n")
    code, out, err = run("report", *(a.replace("{}", str(folder)).replace("{root}", str(root)) for a in args), "-o", tmp_path / "r.html")
    last = [line for line in err.splitlines() if not line.startswith("note")]
    assert code == 2 and out == "" and words in err and len(last) == 1 and not (tmp_path / "r.html").exists(), err


def test_an_input_is_never_overwritten(folder):
    before = (folder / "train.csv").read_bytes()
    assert run("report", folder / "m.lgdcnn", "--data", folder / "train.csv", "-o", folder / "train.csv")[0] == 2
    assert (folder / "train.csv").read_bytes() == before


def test_what_users_wrote_is_shown_as_written():
    page = render("<t>", "l", [Section("a", "A", ["<script>x</script>"], [Table("c", ["n"], [["<img src=x>"]])])], "f")
    assert "<script>" not in page and "&lt;img src=x&gt;" in page and "<title>&lt;t&gt;" in page


def test_the_commands_say_how_it_was_trained(fitted):
    words = training_words(fitted)
    assert words[words.index("--epochs") + 1] == "2" and words[words.index("--validation") + 1] == "0.2" and words[-2:] == ["--seed", "0"]
    assert "lowest upper ends" in chosen_how({"by": "bound", "lowest": True})


def test_a_table_without_numbers_still_makes_a_page(fitted, tmp_path):
    (tmp_path / "t.csv").write_text("formula,hf\nFe2Ox,1\nNaCl,none\n")
    from lgdcnn.shortlist.report import report
    page = report(Sources(fitted, "hf", "", check_table(tmp_path / "t.csv", ("hf",))), {})
    assert "rows that can be used" in page and "Refused, or skipped" in page
    with pytest.raises(InputError, match="one number"):
        class Odd: _kind = "classifier"
        Sources(Odd())


def test_columns_of_two_names_and_a_unit_in_a_header_are_read_repeated_and_said_once(folder, fitted, embedded):
    text = (folder / "train.csv").read_text()
    (folder / "named.csv").write_text(text.replace("formula,hf,", "Sample,hf (eV/atom),", 1))
    fitted.target_ |= {"name": "hf (eV/atom)", "unit": UNIT}
    fitted.save(folder / "named.lgdcnn")
    fitted.target_ |= {"name": "", "unit": ""}
    code, _, err = run("report", folder / "named.lgdcnn", "--data", folder / "named.csv", "--formula", "Sample", "--candidates", folder / "asked.csv",
                       "-o", folder / "named.html")
    assert code == 0, err
    said = " ".join(Page((folder / "named.html").read_text(encoding="utf-8")).text)
    assert "hf: from measurements" in said and "(eV/atom) (eV/atom)" not in said and "(eV/atom) in eV/atom" not in said
    assert "lgdcnn check named.csv --formula Sample --target 'hf (eV/atom)'" in said and "--csv asked.csv --check model" in said
    assert "lgdcnn compare named.csv --target 'hf (eV/atom)' --out comparison.csv" in said  # what is missing can be pasted
