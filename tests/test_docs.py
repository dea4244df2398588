"The site is made of the notebooks: it builds without a warning, every link leads somewhere, nothing comes from a network."
import functools
import http.server
import json
import posixpath
import re
import subprocess
import sys
import threading

import pytest
from conftest import made_once
from test_browser import start_browser, wait

pytest.importorskip("myst_nb", reason="the site needs the extra 'docs': make docs")


@pytest.fixture(scope="module")
def tools(root):
    "The modules in docs/."
    sys.path.insert(0, str(root / "docs"))
    import links
    import stage
    yield {"links": links, "stage": stage}
    sys.path.remove(str(root / "docs"))


@pytest.fixture(scope="module")
def site(request, root, tmp_path_factory):
    "The built site."
    made_once(request, tmp_path_factory.getbasetemp())
    target = tmp_path_factory.mktemp("site")
    run = subprocess.run([sys.executable, root / "docs" / "build.py", target], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return target / "html"


def test_every_notebook_module_and_figure_is_there(site, root):
    notebooks = [p.relative_to(root / "nbs") for p in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    assert len(notebooks) > 30
    assert not [n for n in notebooks if not (site / n).with_suffix(".html").is_file()]
    assert not [m for p in sorted((root / "lgdcnn").rglob("[a-z]*.py"))
                if not (site / "api" / f"{(m := '.'.join(p.relative_to(root / 'lgdcnn').with_suffix('').parts))}.html").is_file()]
    gallery = (site / "figures.html").read_text()
    for name, entry in json.loads((root / "paper_figures" / "manifest.json").read_text()).items():
        assert f"{name}.png" in gallery and f"{name}.csv" in gallery, name
        assert "; ".join(line.strip() for line in entry["says"])[:20].split("'")[0] in gallery.replace("&gt;", ">").replace("&lt;", "<")


def test_public_names_are_documented_with_their_parameters(site):
    page = (site / "api" / "estimators.regressor.html").read_text()
    assert 'id="lgdcnn.estimators.regressor.LGDCNNRegressor.predict_interval"' in page
    assert "networks to average" in page  # a comment beside a parameter


def test_maths_needs_no_script(site):
    assert "<mfrac>" in (site / "09_cecv/03_cecv.html").read_text()
    assert not [p for p in site.rglob("*.js") if "mathjax" in p.name.lower()]
    assert not [p.name for p in site.rglob("*.html") if re.search("<script[^>]*mathjax", p.read_text(), re.I)]


def test_nothing_is_fetched(site):
    for page in site.rglob("*.html"):
        assert not re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(?:https?:)?//[^"]*"', page.read_text()), page.name


def test_what_is_for_nbdev_alone_is_not_shown(site):
    text = (site / "14_plots/09_figures.html").read_text()
    assert "nbdev_export" not in text and "default_exp" not in text and "#| export" not in text


def test_a_broken_link_is_found(tools, tmp_path):
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1>')
    (tmp_path / "a.html").write_text('''<a href="b.html#here">good</a> <a href="b.html#there">no place</a> <a href="c.html">no page</a>
        <a href="https://doi.org/10.1021/acs.jctc.4c00187">elsewhere, on request</a><script src="https://cdn.example/x.js"></script>''')
    wrong = tools["links"].check(tmp_path)
    assert [re.sub(r":.*", "", w.removeprefix("a.html: ")) for w in wrong] == ["b.html#there", "c.html", "https"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text("<p id='a' name='b&amp;c'>")
    (tmp_path / "a.html").write_text("""<A title='x > y' HREF='sub/'>a folder</A> <a
        href="sub/#b%26c">a name</a> <img alt="a > b" src="gone.png"> <a href="sub/index.html?q=1#d">no place</a>
        <script>const a = document.createElement("script"); a.src = "elsewhere.js"</script>""")
    wrong = [w.removeprefix("a.html: ") for w in tools["links"].check(tmp_path)]
    assert wrong == ["sub/index.html?q=1#d: the page has no such place", "gone.png: there is no such file", "a script loads from elsewhere"]


def test_links_of_notebooks_lead_to_pages(tools):
    relink = tools["stage"].relink
    assert relink("[x](03_networks/03_layers.ipynb)", "09_cecv/03_cecv.ipynb") == "[x](03_networks/03_layers.ipynb)"
    assert relink("[x](../results/demo), [y](figures)", "index.ipynb") == "[x](results.md), [y](figures.md)"
    assert relink("[x](../../CHANGELOG.md#a)", "figures/fig01_parity.ipynb") == "[x](../CHANGELOG.md#a)"
    assert relink("[a file without a page](../pyproject.toml)", "index.ipynb") == "a file without a page"
    assert relink("[x](https://doi.org/1)", "index.ipynb") == "[x](https://doi.org/1)"


def test_pages_are_numbered_as_in_a_book(tools):
    number = tools["stage"].number_of
    assert [number(n) for n in ("03_networks/02_recurrence.ipynb", "10_benchmark/10_main.ipynb", "90_log.ipynb")] == ["3.2", "10.10", "90"]
    assert [number(n) for n in ("index.ipynb", "figures/fig01_parity.ipynb", "tutorials/own_data.ipynb")] == [""] * 3


def test_each_chapter_has_its_list_of_pages(tools):
    stage = tools["stage"]
    books = dict.fromkeys(["03_networks/01_packed.ipynb", "03_networks/02_layers.ipynb", "09_cecv/01_clusters.ipynb", "90_log.ipynb", "index.ipynb"])
    assert stage.chapters(books) == [(3, "Networks", list(books)[:2]), (9, "CECV", ["09_cecv/01_clusters.ipynb"])]
    text = stage.contents(books)
    assert ":caption: 3 · Networks\n\n03_networks.md\n03_networks/01_packed.ipynb\n03_networks/02_layers.ipynb\n" in text
    assert all(text.count(n) == 1 for n in list(books)[:4]) and "index.ipynb" not in text
    for wrong in ({"90_log.ipynb": {}}, {"03_attics/01_a.ipynb": {}}):
        with pytest.raises(ValueError, match="no chapters in nbs/, or some without a heading"): stage.chapters(wrong)


def test_the_site_has_the_chapters_in_order(site, tools, root):
    page = (site / "03_networks" / "03_layers.html").read_text()
    assert "<h1>3.3 · " in page
    captions = re.findall(r'caption-text">(\d+) · ', (site / "index.html").read_text())
    assert captions == [str(k) for k in range(1, len(list((root / "nbs").glob("[01][0-9]_*/"))) + 1)]


@pytest.mark.parametrize("page, leads", [("index.html", []), ("03_networks/03_layers.html", []), ("91_where_not.html", []),
                                         ("tutorials/own_data.html", ["tutorials.html"]),
                                         ("api/estimators.regressor.html", ["api.html"])])
def test_the_side_bar_shows_where_a_page_is(site, page, leads):
    "The tree is made once for all pages; each has all links, as seen from it, and its own place in them."
    entry = r'<li class="(toctree-l[^"]*)"><a class="([^"]*)" href="([^"]*)">[^\n]*?</a>(<input checked="")?'
    bar = lambda name: re.findall(entry, re.search('class="sidebar-tree">(.*?)</div>', (site / name).read_text(), re.S)[1])
    at = lambda link: page if link == "#" else posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    own = [page] * (page != "index.html")
    assert [at(link) for *_, link, _ in bar(page)] == [link for *_, link, _ in bar("index.html")] and len(bar(page)) > 300
    assert [at(link) for kind, _, link, _ in bar(page) if "current" in kind.split()] == leads + own
    assert [at(link) for kind, name, link, _ in bar(page) if "current-page" in kind.split() and "current" in name.split()] == own
    assert [at(link) for *_, link, opened in bar(page) if opened] == leads, "the shelves above the page are open, no other"


def test_a_quotation_that_is_gone_stops_the_build(tools, root):
    books = {"90_log.ipynb": tools["stage"].read(root / "nbs" / "90_log.ipynb")}
    with pytest.raises(ValueError, match="'Nobody wrote this' begins 0 paragraphs"):
        tools["stage"].quoted("QUOTE 90_log.ipynb: Nobody wrote this", books)


def test_an_unknown_formula_is_reported(tools):
    from docutils.utils.math import MathError
    from mathml import mathml
    assert "<mi>x</mi>" in mathml(r"\big(x\big)", False)
    with pytest.raises(MathError): mathml(r"\nosuchcommand", False)


# what a browser sees of it, on a desk and on a telephone

class Quiet(http.server.SimpleHTTPRequestHandler):
    "Serve files, without a line for each, nor an icon, for which browsers ask by themselves."
    def log_message(self, *args): pass

    def do_GET(self):
        if self.path != "/favicon.ico": return super().do_GET()
        self.send_response(204)
        self.end_headers()


@pytest.fixture(scope="module")
def reader(site, tmp_path_factory):
    "A browser, and a function that opens a page of the site in it."
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = start_browser(tmp_path_factory.mktemp("browser"), 1280, 1000)
    yield browser, lambda page: browser.get(f"http://127.0.0.1:{server.server_port}/{page}")
    browser.quit()
    server.shutdown()


def faults(browser):
    "What is wrong with the page at hand: pictures, errors, and what is wider than the screen."
    wait(lambda: browser.execute_script("return document.readyState") == "complete", 20)
    broken = browser.execute_script("return [...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.src)")
    errors = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    wide, screen = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    return [*broken, *errors, *([f"{wide} pixels wide on a screen of {screen}"] if wide > screen else [])]


def press(browser, css, text=None):
    "Click the first thing that reads so: found in the page, where there are hundreds of links."
    browser.execute_script("""const found = [...document.querySelectorAll(arguments[0])].find(
        e => e.getClientRects().length && (arguments[1] === null || e.textContent.trim() === arguments[1]));
        found.scrollIntoView({block: "center", behavior: "instant"});
        return found""", css, text).click()


def follow(browser, css, text=None):
    "Click a link, and look at the page behind it."
    at = browser.current_url
    press(browser, css, text)
    wait(lambda: browser.current_url != at, 20)
    assert not faults(browser), browser.current_url


@pytest.mark.slow
def test_a_reader_clicks_through_the_site(reader):
    browser, go = reader
    go("index.html")
    assert not faults(browser)
    for css, text in ((".sidebar-tree a", "Tutorials"), ("article li a", "From a messy table to a shortlist"), (".sidebar-tree a", "9 · CECV"),
                      ("article li a", None), (".sidebar-tree a", "The benchmark")): follow(browser, css, text)
    rows = lambda: browser.execute_script("return [...document.querySelectorAll('table.sortable tbody tr')].map(r => Number(r.cells[3].dataset.value))")
    before = rows()
    for order in (sorted(before), sorted(before, reverse=True)):
        press(browser, "table.sortable th button", "rows")
        assert rows() == order != before and len(order) > 25
    follow(browser, "table.sortable td a", "Matbench steels")
    assert browser.execute_script("return document.querySelector('article img.gallery').naturalWidth") > 500, "parity and coverage"
    follow(browser, "article a", "All sets")
    follow(browser, ".sidebar-tree a", "Figures")
    assert browser.execute_script("return document.querySelectorAll('article img.gallery').length") > 25
    follow(browser, "article h2 a")
    assert "/figures/fig01_parity" in browser.current_url


@pytest.mark.slow
@pytest.mark.parametrize("words, first", [("band gap", "tutorials/"), ("interval", "tutorials/"), ("fused", "11_comparison/|07_fusion/")])
def test_search_finds_prose_first(reader, words, first):
    browser, go = reader
    go(f"search.html?q={words.replace(' ', '+')}")
    links = "return [...document.querySelectorAll('ul.search li > a')].map(a => new URL(a.href).pathname.slice(1))"
    found = wait(lambda: len(f := browser.execute_script(links)) > 12 and f, 20)
    assert not [f for f in found[:10] if re.match("api|results|commands|CHANGELOG|_modules", f)], found[:10]
    assert re.match(first, found[0]), found[:10]


@pytest.mark.slow
def test_on_a_telephone_pages_are_as_wide_as_the_screen_and_code_scrolls(reader):
    browser, go = reader
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})
    try:
        for page in ("index", "tutorials", "tutorials/shortlist", "table", "sets/matbench_steels", "figures", "figures/fig01_parity", "09_cecv/03_cecv",
                     "results", "commands", "api/estimators.regressor", "91_where_not"):
            go(f"{page}.html")
            assert not faults(browser), page
            cut = browser.execute_script("""return [...document.querySelectorAll('article pre, article table, article img')].filter(e => {
                for (let p = e; p.tagName !== 'ARTICLE'; p = p.parentElement)
                    if (p.getBoundingClientRect().right <= 391 && ['auto', 'scroll'].includes(getComputedStyle(p).overflowX)) return false;
                return e.getBoundingClientRect().right > 391; }).map(e => e.outerHTML.slice(0, 80))""")
            assert not cut, f"{page}: wider than the screen, and it does not scroll"
    finally: browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
