"The page to explore a model: what it says, what a browser sees of it, and that it stays on this machine."
import base64
import io
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pandas as pd
import pytest
from click.testing import CliRunner
from test_browser import start_browser, wait

from lgdcnn.cli import main
from lgdcnn.config import InputError
from lgdcnn.estimators.classifier import load_model
from lgdcnn.shortlist import answers, app

EVIL = "<img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def path(fitted, tmp_path_factory):
    "A small model that knows the name and the unit of what it predicts."
    path = fitted.save(tmp_path_factory.mktemp("app") / "m.lgdcnn")
    model = load_model(path, "cpu")
    model.target_ = {"name": "enthalpy", "unit": "eV/atom"}
    return model.save(path)


@pytest.fixture(scope="module")
def asked(path): return answers.Asked(load_model(path, "cpu"))


# what it says

def test_a_formula_is_answered_with_unit_interval_domain_and_contributions(asked):
    said = answers.answer(asked, " Fe2O3 ")
    value = float(asked.model.predict(["Fe2O3"])[0])
    assert f"Fe2O3: enthalpy <b>{value:.4g} eV/atom</b>" in said and "90 % interval: " in said
    assert "contribution (eV/atom)" in said and "the nearest compound in training is" in said
    assert "Outside of what the model knows" in answers.answer(asked, "XeF6")


def test_a_unit_in_the_name_of_a_column_stands_there_once(path):
    model = load_model(path, "cpu")
    model.target_ = {"name": "enthalpy (eV/atom)", "unit": "eV/atom"}
    asked = answers.Asked(model)
    assert app.title_of(asked) == "enthalpy (eV/atom) from the formula" and "CaO: enthalpy <b>" in answers.headline(asked, "CaO")


def test_a_bound_holds_for_a_formula_a_system_and_a_table(asked):
    above = answers.Asked(asked.model, minimum=9)
    assert answers.headline(above, "CaO").count("9 eV/atom") == 2 and "9 to 9 eV/atom" in answers.headline(above, "CaO")
    assert (answers.system_table(above, ("Ca", "O"))[["prediction", "lower", "upper"]] == 9).all(axis=None)
    known = asked.model.formulas_[:3]
    table, _ = answers.ranked(above, "\n".join(["formula", *known]).encode())
    plain, _ = answers.ranked(asked, "\n".join(["formula", *known]).encode())
    assert (table["prediction"] == 9).all() and table["rank"].tolist() == plain["rank"].tolist(), "what a bound cuts keeps its order"
    assert sorted(plain["rank"]) == [1, 2, 3]
    with pytest.raises(InputError, match="leave no room"): answers.Asked(asked.model, 2, 1)


@pytest.mark.parametrize("text, said", [
    ("Fe2Ox", "'Fe2Ox' cannot be read: 'Ox' is not an element"), ("Ti-Xx", "'Xx' is no element: a system is written like Ti-O"),
    ("Ti-Ti", "two different elements"), ("Fe-O-N-C", "two or three elements"), (EVIL, "cannot be read"), ("C" * 501, "501 letters"),
    ("-", "is no element"), ("NaCl KCl", "cannot be read")])
def test_what_cannot_be_read_is_one_plain_sentence(asked, text, said):
    found = answers.answer(asked, text)
    assert found.count("<p") == 1 and "color:#b00020" in found and said in found.replace("&#x27;", "'") and "<img" not in found


def test_a_table_comes_back_whole_and_ranked(asked):
    content = b"name;formula;note\na;NaCl;1,5\nb;Fe2O3;\nc;Xq3;x\nd;XeF6;\n;;\ne;MgO;\n"
    (up, _), (down, _) = answers.ranked(asked, content), answers.ranked(asked, content, lowest=True)
    assert up["name"].tolist() == ["a", "b", "c", "d", "", "e"] and up["note"][0] == "1,5", "the columns that were there are as they were"
    assert (up["problem"] != "").tolist() == [False, False, True, False, True, False]
    inside = up[up["outside"].eq(False)]
    assert len(inside) and up["rank"].notna().sum() == len(inside), "only what is inside the domain has a rank"
    best = inside["prediction"].astype(float).idxmax()
    assert up["rank"][best] == 1 and down["rank"][best] == len(inside)


@pytest.mark.parametrize("ranks, problems, said", [
    ([1, 2], ["", ""], "2 of 2 rows are ranked."),
    ([1, None, None], ["", "", "x"], "1 of 3 rows is ranked; 1 is outside of what the model knows; 1 cannot be read."),
    ([None, None], ["", ""], "0 of 2 rows are ranked; 2 are outside of what the model knows.")])
def test_rows_are_counted_in_words(ranks, problems, said):
    assert answers._counts(pd.DataFrame({"rank": ranks, "problem": problems})) == said


@pytest.mark.parametrize("content, said", [
    (b"a,b\n1,2\n", "formula"), (b"formula\nXq\n", "no row has a formula that can be read"), (b"", "is empty"),
    (b"formula,std\nNaCl,1\n", "has a column 'std' already"), (b"formula,problem\nNaCl,1\nXq,2\n", "has a column 'problem' already"),
    (b"formula\n" + b"NaCl\n" * (answers.MOST_ROWS + 1), "20,001 rows are more than 20,000"),
    (b"x" * (answers.MOST_BYTES + 1), "2,000,001 bytes are more than"), (b"PK\x03\x04", "save it as CSV"), (b"\xff\xfe\x00", "UTF-8"),
    (b"formula,a\nNaCl\n", "line 2 has 1 field"),
    (b'formula,a\n"NaCl,1\n', "is a quotation mark not closed?</p>")])
def test_a_table_that_cannot_be_ranked_is_one_plain_sentence(asked, content, said):
    found = answers.handed_back(asked, content, "mine.csv")
    assert found.count("<p") == 1 and "color:#b00020" in found and said in found.replace("&#x27;", "'")


def test_a_fault_of_ours_is_a_sentence_too():
    assert app.plainly(lambda: {}["x"]) == "<p style='color:#b00020'>This went wrong: KeyError: &#x27;x&#x27;.</p>"


# the command

def test_what_is_wrong_is_told_before_a_server_begins(path, fitted, tmp_path, monkeypatch):
    import importlib.util
    def line(*args):
        r = CliRunner().invoke(main, ["app", *map(str, args)])
        assert r.exit_code == 2 and r.stderr.count("\n") == 1 and not r.stdout, r.output
        return r.stderr
    assert "nowhere.lgdcnn" in line("nowhere.lgdcnn")
    assert "leave no room" in line(path, "--min", 1, "--max", 0)
    several = load_model(path, "cpu")
    several.target_ = {"names": ["a", "b"]}
    with pytest.raises(InputError, match="models of one number"): answers.Asked(several)
    with monkeypatch.context() as m:
        m.setattr(importlib.util, "find_spec", lambda name: None)
        assert "the page needs voila and ipywidgets: pip install 'lgdcnn[app]'" in line(path)
    pytest.importorskip("voila")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert f"port {port} cannot be used" in line(path, "--port", port)


# the page, in one server and one browser

@pytest.fixture(scope="module")
def served(root, path, tmp_path_factory):
    "The page in a server of its own, begun in a folder that stays empty, by a user whose home stays empty."
    pytest.importorskip("voila")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    here, home, scratch = (tmp_path_factory.mktemp(n) for n in ("here", "home", "scratch"))
    own = {"HOME": str(home), "TMPDIR": str(scratch), "MPLCONFIGDIR": str(tmp_path_factory.mktemp("mpl")), "PYTHONDONTWRITEBYTECODE": "1",
           "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-c", "from lgdcnn.cli import main; main()", "app", str(path), "--port", str(port), "--no-browser"]
    log = tmp_path_factory.mktemp("log") / "log"
    with log.open("w") as f: server = subprocess.Popen(command, cwd=here, env={**os.environ, **own}, stdout=f, stderr=f)
    try:
        # no page is asked for: each call of it starts a kernel
        wait(lambda: listens("127.0.0.1", port) or server.poll() is not None, 60, log.read_text)
        assert server.poll() is None, log.read_text()[-2000:]
        yield {"port": port, "empty": (here, home), "log": log}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    assert not list(scratch.iterdir()), "the folder of the server is left behind"


def listens(address, port):
    try: socket.create_connection((address, port), timeout=1).close()
    except OSError: return False
    return True


@pytest.fixture(scope="module")
def browser(served, tmp_path_factory):
    driver = start_browser(tmp_path_factory.mktemp("browser"), 1280, 1000)
    driver.get(f"http://127.0.0.1:{served['port']}/")
    wait(lambda: driver.execute_script("return document.querySelector('.lgdcnn .widget-text input')"), 60, lambda: text(driver))
    yield driver
    driver.quit()


def text(browser): return browser.execute_script("return document.body.innerText")


def ask(browser, formula, said):
    "Type something and wait for what should be said."
    typed = browser.find_element("css selector", ".lgdcnn .widget-text input")
    typed.clear()
    typed.send_keys(f"{formula}\n")
    wait(lambda: said in text(browser), 30, lambda: text(browser))
    look(browser, formula)


def choose(browser, path):
    "Give a file to the button; its dialogue does not open in a headless browser."
    if not browser.find_elements("css selector", "input[type=file]"): browser.find_element("css selector", ".lgdcnn .widget-upload").click()
    wait(lambda: browser.find_elements("css selector", "input[type=file]"), 10)[0].send_keys(str(path))


def upload(browser, path, said):
    choose(browser, path)
    wait(lambda: said in text(browser), 30, lambda: text(browser))
    look(browser, "table")


def look(browser, name):
    "Keep a picture where somebody wants to see the page."
    if kept := os.environ.get("SCREENSHOTS"): browser.save_screenshot(f"{kept}/app-{name.strip('<>')[:12]}-{browser.get_window_size()['width']}.png")


@pytest.mark.slow
def test_a_browser_asks_for_a_formula_a_system_and_nonsense(browser, asked):
    ask(browser, "Fe2O3", "90 % interval")
    said = text(browser)
    assert f"{float(asked.model.predict(['Fe2O3'])[0]):.4g} eV/atom" in said and "contribution (eV/atom)" in said
    assert "load_model" not in said, "code is shown"
    ask(browser, "XeF6", "Outside of what the model knows")
    drawn = "return [...document.images].some(i => i.complete && i.naturalWidth > 300 && i.alt.includes('%s'))"
    for system in ("Ti-O", "Fe-Ni-O"):
        ask(browser, system, f"Predicted enthalpy in {system}")
        wait(lambda s=system: browser.execute_script(drawn % s), 20)
    ask(browser, EVIL, "cannot be read")
    assert browser.execute_script("return window.hit === undefined && !document.querySelector('img[src=x]')")


@pytest.mark.slow
def test_a_browser_hands_a_table_over_and_gets_it_back(browser, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text(f"formula,{EVIL}\nNaCl,{EVIL}\nMgO,2\n{EVIL},3\nXeF6,4\n")
    upload(browser, mine, "Download all 4 rows")
    assert browser.execute_script("return window.hit === undefined && !document.querySelector('img[src=x]')")
    link = browser.find_element("css selector", ".lgdcnn a[download]").get_attribute("href")
    back = pd.read_csv(io.BytesIO(base64.b64decode(link.partition(",")[2])))
    assert back["formula"].tolist() == ["NaCl", "MgO", EVIL, "XeF6"] and back[EVIL][0] == EVIL and back["prediction"].notna().sum() == 3
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    upload(browser, tmp_path / "other.csv", "the table has no formula column")
    assert "Download" not in text(browser) and "Traceback" not in text(browser)


@pytest.mark.slow
def test_a_table_at_the_limit_comes_back_and_a_larger_one_is_refused_in_the_browser(browser, tmp_path):
    n = answers.MOST_ROWS
    (tmp_path / "full.csv").write_text("formula,about\n" + "".join(f"Na{k}Cl{k + 1},{'x' * 80}\n" for k in range(1, n + 1)))
    assert answers.MOST_BYTES * 0.9 < (tmp_path / "full.csv").stat().st_size < answers.MOST_BYTES
    upload(browser, tmp_path / "full.csv", f"Download all {n:,} rows")
    (tmp_path / "large.csv").write_text("formula\n" + "NaCl\n" * (answers.MOST_BYTES // 5 + 1))
    choose(browser, tmp_path / "large.csv")
    from selenium.webdriver.support.ui import WebDriverWait
    alert = WebDriverWait(browser, 10).until(lambda b: b.switch_to.alert)
    assert "more than 2,000,000: use lgdcnn predict --csv" in alert.text
    alert.accept()
    ask(browser, "MgO", "MgO: enthalpy")  # the line to the server still stands


@pytest.mark.slow
def test_on_a_telephone_the_page_is_as_wide_as_the_screen(browser):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        for formula, said in (("LiFePO4", "LiFePO4: enthalpy"), ("Li-Fe-O", "Predicted enthalpy in Li-Fe-O")):
            ask(browser, formula, said)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
            cut = "return [...document.querySelectorAll('.lgdcnn input, .lgdcnn button, .lgdcnn img, .lgdcnn p')].filter(e => e.getBoundingClientRect().right > 380).map(e => e.outerHTML)"
            assert not browser.execute_script(cut)
    finally: browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere_nothing_is_written_and_nothing_complains(browser, served):
    names = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    ours = (f"http://127.0.0.1:{served['port']}/", f"ws://127.0.0.1:{served['port']}/", "data:")
    assert names and not [n for n in names if not n.startswith(ours)]
    errors = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert not errors
    assert not [p for folder in served["empty"] for p in folder.rglob("*")], "a file was written"
    assert "Traceback" not in served["log"].read_text()


@pytest.mark.slow
def test_it_answers_here_alone(served):
    port = served["port"]
    outside = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    assert not [a for a in outside if not a.startswith("127.") and listens(a, port)]
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": f"elsewhere.example:{port}"})
    with pytest.raises(urllib.error.HTTPError): urllib.request.urlopen(request, timeout=10)  # a page elsewhere that calls itself this machine
