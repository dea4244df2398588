"Look through built pages: every link leads somewhere, and nothing is loaded from elsewhere."
import os
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
# A general parser reads each of a million tags; whole expressions over a page take a tenth of its time.
_VALUE = r"""(?:"[^"]*"|'[^']*')"""
_TAG = re.compile(rf"<([a-z][a-z0-9]*)\s((?:[^<>\"']|{_VALUE})*)>", re.I)
_ATTRIBUTE = re.compile(rf"([a-z-]+)\s*=\s*({_VALUE})", re.I)
_SCRIPT = re.compile(r"<script\b[^>]*>(.*?)</script>", re.I | re.S)


class Page:
    "Collect the names that a page defines, its links, what it loads and its scripts."
    def __init__(self, text: str):
        self.names, self.links, self.loads, self.scripts = set(), [], [], _SCRIPT.findall(text)
        for tag, attributes in _TAG.findall(text):
            given = {k.lower(): unescape(v[1:-1]) for k, v in _ATTRIBUTE.findall(attributes)}
            if given: self._take(tag.lower(), given)

    def _take(self, tag: str, given: dict[str, str]) -> None:
        self.names |= {given[k] for k in ("id", "name") if given.get(k)}
        if tag == "a" and given.get("href"): self.links.append(given["href"])
        external_info = tag == "link" and given.get("rel") in ("canonical", "author", "license")
        if tag in LOADS and given.get(LOADS[tag]) and not external_info: self.loads.append(given[LOADS[tag]])


def _fault(file: str, url: str, pages: dict[str, Page], files: set[str]) -> str | None:
    "Say what is wrong with a link inside the site."
    parts = urlsplit(url)
    target = os.path.normpath(os.path.join(os.path.dirname(file), unquote(parts.path))) if parts.path else file
    if target not in files: target = os.path.join(target, "index.html")
    if target not in files: return f"{url}: there is no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
        return f"{url}: the page has no such place"
    return None


def check(folder: Path) -> list[str]:  # what is wrong, a line each
    "Check all pages of a built site."
    folder = folder.resolve()
    files = {str(f) for f in folder.rglob("*") if f.is_file()}
    pages = {f: Page(Path(f).read_text(encoding="utf-8")) for f in sorted(files) if f.endswith(".html")}
    wrong = []
    for file, page in pages.items():
        inside = [u for u in dict.fromkeys((*page.links, *page.loads)) if not urlsplit(u).scheme and not u.startswith("//")]
        found = [_fault(file, u, pages, files) for u in inside]
        found += [f"{u}: is loaded from elsewhere" for u in page.loads if re.match(r"(https?:)?//", u)]
        found += ["a script loads from elsewhere" for s in page.scripts if re.search(r"import\(|\.src\s*=|@import", s)]
        wrong += [f"{os.path.relpath(file, folder)}: {fault}" for fault in found if fault]
    for css in folder.rglob("*.css"):
        if re.search(r"(@import|url\()\s*['\"]?(https?:)?//", css.read_text(encoding="utf-8")):
            wrong.append(f"{css.relative_to(folder)}: loads from elsewhere")
    return wrong
