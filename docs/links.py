"Look through built pages: every link leads somewhere, and nothing is loaded from elsewhere."
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


class _Page(HTMLParser):
    "Collect the names that a page defines, its links, and what it loads."
    def __init__(self, path: Path):
        super().__init__()
        self.names, self.links, self.loads, self.scripts = set(), [], [], []
        self._in_script = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given[k] for k in ("id", "name") if given.get(k)}
        if tag == "a" and given.get("href"): self.links.append(given["href"])
        external_info = tag == "link" and given.get("rel") in ("canonical", "author", "license")
        if tag in LOADS and given.get(LOADS[tag]) and not external_info: self.loads.append(given[LOADS[tag]])
        self._in_script = tag == "script"

    def handle_endtag(self, tag): self._in_script = False

    def handle_data(self, data):
        if self._in_script: self.scripts.append(data)


def _faults(file: Path, url: str, pages: dict[Path, _Page]) -> str | None:
    "Say what is wrong with a link inside the site."
    parts = urlsplit(url)
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if target.is_dir(): target /= "index.html"
    if not target.is_file(): return f"{url}: there is no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
        return f"{url}: the page has no such place"
    return None


def check(folder: Path) -> list[str]:  # what is wrong, a line each
    "Check all pages of a built site."
    folder = folder.resolve()
    pages = {f: _Page(f) for f in sorted(folder.rglob("*.html"))}
    wrong = []
    for file, page in pages.items():
        inside = [u for u in (*page.links, *page.loads) if not urlsplit(u).scheme and not u.startswith("//")]
        found = [_faults(file, u, pages) for u in dict.fromkeys(inside)]
        found += [f"{u}: is loaded from elsewhere" for u in page.loads if re.match(r"(https?:)?//", u)]
        found += ["a script loads from elsewhere" for s in page.scripts if re.search(r"import\(|\.src\s*=|@import", s)]
        wrong += [f"{file.relative_to(folder)}: {fault}" for fault in found if fault]
    for css in folder.rglob("*.css"):
        if re.search(r"(@import|url\()\s*['\"]?(https?:)?//", css.read_text(encoding="utf-8")):
            wrong.append(f"{css.relative_to(folder)}: loads from elsewhere")
    return wrong
