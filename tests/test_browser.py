"A reader's way: JupyterLab in a real browser opens a figure notebook and runs it; `make lab` opens the first page, and git sees no change."
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

BROWSER = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
DRIVER = shutil.which("chromedriver")
NOTEBOOK = "nbs/figures/fig01_parity.ipynb"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium and chromedriver on PATH "
                       "(Debian: apt-get install chromium chromium-driver)"),
]


@pytest.fixture
def clone(root, tmp_path):
    "A small clone, so that running a notebook touches nothing else."
    for name in ("results/demo", "nbs/figures"): shutil.copytree(root / name, tmp_path / "clone" / name)
    (tmp_path / "clone" / "paper_figures").mkdir()  # a notebook shows the picture as it was last drawn
    for name in ("settings.ini", "paper_figures/fig01_parity.png"): shutil.copy(root / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


@contextmanager
def serving(command, root, tmp_path, cwd=None):
    "Run a JupyterLab of its own; `command` makes the command of its options. Gives its address."
    pytest.importorskip("jupyterlab")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {f"{name}_DIR": str(tmp_path / name) for name in
           ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME", "JUPYTERLAB_SETTINGS", "JUPYTERLAB_WORKSPACES")}
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    bare = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}  # a backend of its own shows no picture
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=", "--ServerApp.password="]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command(options), env={**bare, **own, "PYTHONPATH": path}, stdout=log, stderr=log, cwd=cwd)
    try:
        wait(lambda: answers(f"http://127.0.0.1:{port}/api"), 60, lambda: (tmp_path / "lab.log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def lab(root, clone, tmp_path):
    "The address of a figure notebook in a JupyterLab that serves the clone."
    command = lambda options: [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={clone}"]
    with serving(command, root, tmp_path) as url: yield f"{url}/lab/tree/{NOTEBOOK}"


@pytest.fixture
def repository(root, tmp_path):
    "A repository with all notebooks, in which git sees no change."
    there = tmp_path / "repository"
    shutil.copytree(root / "nbs", there / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(root / "lab", there / "lab")
    (there / "paper_figures").mkdir()
    for name in ("Makefile", "pyproject.toml", "settings.ini", ".gitignore", "paper_figures/fig01_parity.png"): shutil.copy(root / name, there / name)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@x.invalid", "commit", "-qm", "x"]): git(there, *command)
    return there


def git(folder, *command):
    alone = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(["git", *command], cwd=folder, env=alone, check=True, capture_output=True, text=True).stdout


def start_browser(folder, width=1400, height=1800):
    "Start a headless chromium whose profile lies in a folder; skips the test where that cannot be."
    selenium = pytest.importorskip("selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    if not (BROWSER and DRIVER): pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    # without a sandbox: chromium refuses to have one when it runs as root, as it does in containers
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}",
                     f"--user-data-dir={folder / 'profile'}"): options.add_argument(argument)
    try: return webdriver.Chrome(options, Service(DRIVER))
    except selenium.common.exceptions.SessionNotCreatedException as e: pytest.skip(f"chromium does not start here: {e.msg}")


@pytest.fixture
def browser(tmp_path):
    driver = start_browser(tmp_path)
    yield driver
    if kept := os.environ.get("SCREENSHOT"): driver.save_screenshot(kept)  # to look at
    driver.quit()


def answers(url):
    try: return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError: return False


def wait(true, seconds, what=lambda: ""):
    "Wait until `true()` is, and return what it returns."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true(): return found
        time.sleep(0.2)
    pytest.fail(f"waited {seconds} s in vain. {what()}")


def idle(browser):
    "Whether the notebook's kernel is there and has nothing to do."
    # not the text of the status bar: it is left out where the bar is narrow
    return bool(browser.find_elements("css selector", ".jp-Notebook-ExecutionIndicator[data-status='idle']"))


def click(browser, css, text=None):
    "Click the first visible element, as soon as there is one."
    from selenium.common.exceptions import WebDriverException
    def try_it():
        for e in browser.find_elements("css selector", css):
            try:
                if e.is_displayed() and (text is None or e.text == text): return e.click() or True
            except WebDriverException: pass  # drawn anew meanwhile, or still covered
    wait(try_it, 60, lambda: f"There is no {css} {text or ''} to click")


def test_a_notebook_runs_in_jupyterlab_and_shows_its_figure(lab, browser, clone):
    browser.get(lab)
    wait(lambda: browser.find_elements("css selector", ".jp-Notebook .jp-CodeCell"), 60)
    wait(lambda: idle(browser), 60)  # asked to run before it has a kernel, JupyterLab lets the reader choose one
    click(browser, ".lm-MenuBar-itemLabel", "Run")
    click(browser, "li[data-command='runmenu:run-all']")
    # scrolled to the end: JupyterLab does not draw what is far from what the reader sees
    size = ("document.querySelectorAll('.jp-WindowedPanel-outer').forEach(e => e.scrollTo(0, e.scrollHeight));"
            "return [...document.querySelectorAll('.jp-OutputArea-output img')].map(i => [i.naturalWidth, i.naturalHeight])")
    (width, height), *_ = wait(lambda: [s for s in browser.execute_script(size) if s[0]], 90)
    assert width > 300 and height > 300

    wait((clone / "paper_figures" / "fig01_parity.csv").is_file, 60)  # what the last cell writes last
    wait(lambda: idle(browser), 60)
    click(browser, ".lm-MenuBar-itemLabel", "File")
    click(browser, "li[data-command='docmanager:save']")
    cells = wait(lambda: executed(clone / NOTEBOOK), 60)
    counts = [c["execution_count"] for c in cells]
    assert counts == list(range(1, len(cells) + 1)), "from top to bottom, each once"
    outputs = [o for c in cells for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == 1


def executed(path: Path):
    "The code cells of a saved notebook; nothing while some have not run."
    cells = [c for c in json.loads(path.read_text(encoding="utf-8") or '{"cells": []}')["cells"] if c["cell_type"] == "code"]
    return cells if cells and all(c["execution_count"] for c in cells) else None


def test_make_lab_opens_the_first_page_with_its_picture_and_leaves_git_clean(root, repository, browser, tmp_path):
    command = lambda options: ["make", "-s", "lab", f"BIN={Path(sys.executable).parent}", f"LAB={' '.join(options)}"]
    with serving(command, root, tmp_path, repository) as url:
        browser.get(f"{url}/lab/tree/nbs/index.ipynb")
        picture = "return [...document.querySelectorAll('.jp-Notebook img')].map(i => [i.complete, i.naturalWidth])"
        pictures = wait(lambda: (p := browser.execute_script(picture)) and all(done for done, _ in p) and p, 60)
        assert all(width > 300 for _, width in pictures), "a broken picture"
        book, before = repository / "nbs/index.ipynb", (repository / "nbs/index.ipynb").stat().st_mtime_ns
        unsaved = "return !!document.querySelector('.lm-DockPanel-tabBar .jp-mod-dirty')"
        wait(lambda: browser.execute_script(unsaved), 60)  # JupyterLab notes which kernel it found
        click(browser, ".lm-MenuBar-itemLabel", "File")
        click(browser, "li[data-command='docmanager:save']")
        wait(lambda: book.stat().st_mtime_ns > before, 60)
        assert git(repository, "status", "--porcelain") == ""
