"The page to explore a model: bound to this machine, limited, and what a browser sees of it."
import csv
import os
import socket
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from lgdcnn.cli import main
from lgdcnn.config import InputError
from lgdcnn.shortlist import app


@pytest.fixture(scope="module")
def model(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("app") / "m.lgdcnn")


def test_a_missing_extra_is_named(model, monkeypatch):
    import importlib.util
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    r = CliRunner().invoke(main, ["app", str(model)])
    assert r.exit_code == 2 and "the page needs voila and ipywidgets: pip install 'lgdcnn[app]'" in r.stderr


def test_it_listens_here_alone_and_takes_little(monkeypatch):
    import importlib.util
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    command = app.voila_command(8866, False)
    assert "--Voila.ip=127.0.0.1" in command and "--no-browser" in command
    assert f"--Voila.tornado_settings=websocket_max_message_size={2 * app.MOST_BYTES}" in command


def test_a_table_comes_back_whole_and_ranked(fitted):
    content = b"name;formula\na;NaCl\nb;Fe2O3\nc;Xq3\nd;XeF6\ne;MgO\n"
    up, down = app.ranked(fitted, content), app.ranked(fitted, content, lowest=True)
    assert up["name"].tolist() == list("abcde") and up["problem"].astype(bool).tolist() == [False, False, True, False, False]
    inside = up[up["outside"] == False]  # noqa: E712
    assert len(inside) and up["rank"].notna().sum() == len(inside), "only what is inside the domain has a rank"
    best = inside["prediction"].idxmax()
    assert up["rank"][best] == 1 and down["rank"][best] == len(inside)
    page = app.handed_back(fitted, content)
    assert "Download all 5 rows" in page and "data:text/csv;base64," in page


@pytest.mark.parametrize("content, said", [
    (b"a,b\n1,2\n", "no column of formulas"), (b"formula\nXq\n", "no row has a formula that can be read"),
    (b"formula,std\nNaCl,1\n", "has a column 'std' already"), (b"formula\n" + b"NaCl\n" * (app.MOST_ROWS + 1), "rows are more than"),
    (b"x" * (app.MOST_BYTES + 1), "bytes are more than")])
def test_what_cannot_be_ranked_is_a_line(fitted, content, said):
    with pytest.raises(InputError, match=said): app.ranked(fitted, content)
    assert "color:#b00" in app.handed_back(fitted, content)


def listens(port):
    "Whether somebody takes calls; a page is not asked for, since each call of it starts a kernel."
    try: socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError: return False
    return True


@pytest.fixture
def served(root, model, tmp_path):
    "The page in a server of its own, begun in a folder that stays empty; gives its port and that folder."
    pytest.importorskip("voila")
    pytest.importorskip("ipywidgets")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    here = tmp_path / "here"
    here.mkdir()
    own = {f"JUPYTER_{k}_DIR": str(tmp_path / k) for k in ("CONFIG", "DATA", "RUNTIME")}
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-c", "from lgdcnn.cli import main; main()", "app", str(model),
                                   "--port", str(port), "--no-browser"], cwd=here, env={**os.environ, **own, "PYTHONPATH": path}, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not listens(port) and time.monotonic() < deadline: time.sleep(0.2)
        assert listens(port), (tmp_path / "log").read_text()[-1000:]
        yield port, here
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


@pytest.mark.slow
def test_a_browser_explores_a_model(served, tmp_path):
    from test_browser import start_browser, wait
    port, here = served
    browser = start_browser(tmp_path)
    try:
        browser.get(f"http://127.0.0.1:{port}/")
        typed = wait(lambda: browser.execute_script("return document.querySelector('.widget-text input')"), 60)
        typed.send_keys("Fe2O3\n")
        text = "return document.body.innerText"
        wait(lambda: "90 % interval" in browser.execute_script(text), 20)
        assert "contributions" in browser.execute_script(text)
        typed.clear()
        typed.send_keys("Ti-O\n")
        wait(lambda: browser.execute_script("return [...document.images].some(i => i.naturalWidth > 300)"), 20)
        with (tmp_path / "mine.csv").open("w", newline="") as f: csv.writer(f).writerows([["formula"], ["NaCl"], ["MgO"], ["Xq3"]])
        hidden = browser.find_element("css selector", "input[type=file]")
        hidden.send_keys(str(tmp_path / "mine.csv"))
        wait(lambda: "Download all 3 rows" in browser.execute_script(text), 20)
        assert "import os" not in browser.execute_script(text), "code is not shown"
        assert not list(here.iterdir()), "a file was written"
    finally: browser.quit()


def test_no_other_address_answers(served):
    port, _ = served
    outside = [a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for address in {a for a in outside if not a.startswith("127.")}:
        with pytest.raises(OSError): socket.create_connection((address, port), timeout=1)
