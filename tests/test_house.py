"""The house keeps its order: small rooms, few in a chapter, public names explained, private ones at home.

Each rule is a function of a folder that lists what breaks it. It is tried three times: on the house itself, on a made-up
house where one thing is wrong, and on an empty folder, where a rule that finds nothing to look at says so.
"""
import ast
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOMS, LINES, FUNCTION_LINES, CELL_LINES = 10, 300, 40, 40  # at most, in a chapter, a module, a function and an exported cell

# What breaks a rule today. A list here may only become shorter: what is mended must be struck off.
KNOWN = {
    "bare_headings": set(),
    "long_modules": set(),
    "undocumented": set(),
    "untyped": set(),
    "private_imports": set(),
}


def some(things: list) -> list:
    "Refuse an empty list: a rule that looks at nothing is always kept."
    assert things, "nothing to look at: was a folder renamed?"
    return things


# notebooks

def chapters(nbs: Path) -> list[Path]: return some([p for p in sorted(nbs.glob("[0-9][0-9]_*")) if p.is_dir()])


def rooms(chapter: Path) -> list[Path]: return some(sorted(chapter.glob("*.ipynb")))


def cells(book: Path) -> list[tuple[str, str]]:  # kind and source of each
    return [(c["cell_type"], "".join(c["source"])) for c in json.loads(book.read_text(encoding="utf-8"))["cells"]]


def too_many_rooms(root: Path) -> set[str]:
    return {c.name for c in chapters(root / "nbs") if len(rooms(c)) > ROOMS}


def wrong_numbers(root: Path) -> set[str]:
    "Name folders and notebooks whose numbers do not run 01, 02, 03 and so on."
    shelves = [chapters(root / "nbs"), *(rooms(c) for c in chapters(root / "nbs"))]
    return {p.relative_to(root / "nbs").as_posix() for shelf in shelves for k, p in enumerate(shelf, 1) if p.name[:3] != f"{k:02}_"}


def bare_headings(root: Path) -> set[str]:
    "Name headings after which code comes before a sentence."
    found, count = set(), 0
    for book in (b for c in chapters(root / "nbs") for b in rooms(c)):
        open_heading = ""
        for kind, text in cells(book):
            if kind == "code":
                if open_heading and not re.match(r"#\| *(hide|default_exp)\b", text):
                    found.add(f"{book.relative_to(root / 'nbs').as_posix()}: {open_heading}")
                    open_heading = ""
                continue
            for line in re.sub(r"(?s)```.*?```|\$\$.*?\$\$", "", text).splitlines():
                if re.match(r"#+ ", line): open_heading, count = line.lstrip("# "), count + 1
                elif len(re.findall(r"[^\W\d_]{2,}", line)) > 2 and not line.startswith("|"): open_heading = ""
    some([None] * count)
    return found


def long_cells(root: Path) -> set[str]:
    """Name exported cells of over 40 lines, blank ones not counted, unless they are one function, or one class after words.

    A class is read in one place, and a function has a limit of its own: neither is taken apart for a cell's sake.
    """
    found, count = set(), 0
    for book in (b for c in chapters(root / "nbs") for b in rooms(c)):
        page = cells(book)
        for (before, _), (kind, text) in zip([("", ""), *page], page, strict=False):
            if kind != "code" or not re.match(r"#\| *exporti?\b", text): continue
            count, body = count + 1, ast.parse(text).body
            whole = len(body) == 1 and (is_function(body[0]) or isinstance(body[0], ast.ClassDef) and before == "markdown")
            if len([line for line in text.splitlines()[1:] if line.strip()]) > CELL_LINES and not whole:
                found.add(f"{book.relative_to(root / 'nbs').as_posix()}: {getattr(body[0], 'name', text.splitlines()[1])}")
    some([None] * count)
    return found


def prose_of(book: Path) -> str: return "\n".join(text for kind, text in cells(book) if kind == "markdown")


def dead_links(root: Path) -> set[str]:
    "Name links in notebooks, tutorials' and figures' too, that lead to no file."
    found, looked = set(), []
    for book in some([p for p in sorted((root / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]):
        for url in re.findall(r"\]\(([^)\s]+)\)", re.sub("`[^`]*`", "", prose_of(book))):
            parts = urlsplit(url)
            if parts.scheme or not parts.path: continue
            looked.append(url)
            if not (book.parent / unquote(parts.path)).exists(): found.add(f"{book.relative_to(root / 'nbs').as_posix()}: {url}")
    some(looked)
    return found


# modules

def modules(root: Path) -> dict[str, str]:  # source by dotted name, 'data.splits'
    found = [p for p in sorted((root / "lgdcnn").rglob("*.py")) if p.name != "_modidx.py"]
    return {".".join(p.relative_to(root / "lgdcnn").with_suffix("").parts): p.read_text(encoding="utf-8") for p in some(found)}


def named(tree: ast.AST, at: str) -> list[tuple[str, ast.AST]]:
    "List functions and classes with their dotted names, those inside others too."
    found = []
    for node in ast.iter_child_nodes(tree):
        is_name = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        name = f"{at}.{node.name}" if is_name else at
        found += [(name, node)] * is_name + named(node, name)
    return found


def is_function(node: ast.AST) -> bool: return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def public(source: str, module: str) -> list[tuple[str, ast.AST]]:
    "List the public functions and classes of a module, and the public methods of those classes."
    found = []
    def add(body, at):
        for node in body:
            if isinstance(node, (ast.If, ast.Try)): add(node.body, at)
            if not (is_function(node) or isinstance(node, ast.ClassDef)) or node.name.startswith("_"): continue
            found.append((f"{at}.{node.name}", node))
            if isinstance(node, ast.ClassDef): add(node.body, f"{at}.{node.name}")
    add(ast.parse(source).body, module)
    return found


def long_modules(root: Path) -> set[str]:
    return {name for name, source in modules(root).items() if len(source.splitlines()) > LINES}


def long_functions(root: Path) -> set[str]:
    functions = [(n, f) for m, source in modules(root).items() for n, f in named(ast.parse(source), m) if is_function(f)]
    return {name for name, f in some(functions) if f.end_lineno - f.lineno >= FUNCTION_LINES}


def undocumented(root: Path) -> set[str]:
    return {name for name, node in some([p for m, s in modules(root).items() for p in public(s, m)]) if not ast.get_docstring(node)}


def untyped(root: Path) -> set[str]:
    "Name public functions of which a parameter, but self, or the result has no type."
    functions = [p for m, s in modules(root).items() for p in public(s, m) if is_function(p[1])]
    def lacks(f):
        a = f.args
        given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x)]
        return not f.returns or any(not x.annotation for x in given if x.arg not in ("self", "cls"))
    return {name for name, f in some(functions) if lacks(f)}


def private_imports(root: Path) -> set[str]:
    "Name private names that a module takes from another chapter, by import or through an imported module."
    found, looked, known = set(), 0, modules(root)
    for module, source in known.items():
        here, tree, books = module.split(".")[:-1], ast.parse(source), {}
        home = here[0] if here else "ground"
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.level: continue
            base, looked = here[:len(here) + 1 - node.level] + (node.module or "").split(".") * bool(node.module), looked + 1
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                is_module = whole in known or f"{whole}.__init__" in known
                chapter = chapter_of(whole if is_module else ".".join(base), known)
                if chapter == home: continue
                if is_module: books[alias.asname or alias.name] = whole
                elif is_private(alias.name): found.add(f"{module}: {whole}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in books and is_private(node.attr):
                found.add(f"{module}: {books[node.value.id]}.{node.attr}")
    some([None] * looked)
    return found


def is_private(name: str) -> bool: return name.startswith("_") and not name.startswith("__")


def chapter_of(module: str, known: dict[str, str]) -> str:
    "Name the folder that holds a module; those beside it are the ground floor."
    return module.split(".")[0] if "." in module or f"{module}.__init__" in known else "ground"


RULES = [too_many_rooms, wrong_numbers, bare_headings, long_cells, dead_links, long_modules, long_functions, undocumented, untyped, private_imports]


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_the_rule(rule, root):
    found, known = rule(root), KNOWN.get(rule.__name__, set())
    assert not found - known, f"{rule.__name__}: {sorted(found - known)}"
    assert not known - found, f"mended, so strike them off: {sorted(known - found)}"


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_sees_nothing_fails(rule, tmp_path):
    with pytest.raises(AssertionError, match="nothing to look at"): rule(tmp_path)
    for name in ("nbs/01_a", "lgdcnn/a"): (tmp_path / name).mkdir(parents=True)
    with pytest.raises(AssertionError, match="nothing to look at"): rule(tmp_path)


# a made-up house, in which all is well

GOOD = '''"Weigh."
from ..places import root

def weigh(x: float, *more: float) -> float:  # grams
    "Weigh things."
    return x

class Scale:
    "Weighs."
    def __init__(self, spring=1): self.spring = spring

    def read(self) -> float:
        "Read the scale."
        return _offset(self)

def _offset(scale): return 0.0
'''


# a class that is read in one place, after a sentence
LONG_CLASS = "#| export\nclass Shelf:\n" + "\n".join(f"    row_{k} = {k}" for k in range(60))


def write_book(path: Path, *pages: str):
    "Write a notebook; what begins with a # and a blank is prose."
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = ["markdown" if p.startswith("# ") else "code" for p in pages]
    path.write_text(json.dumps({"cells": [{"cell_type": k, "source": [p]} for k, p in zip(kinds, pages, strict=True)]}))


@pytest.fixture
def small_house(tmp_path):
    book = ("#| default_exp a.weigh", "# Weighing\nWith a scale, as in [the other](02_b.ipynb).", LONG_CLASS, "#| export\nx = 1")
    for name in ("01_a/01_weigh", "01_a/02_b", "02_c/01_d"): write_book(tmp_path / f"nbs/{name}.ipynb", *book)
    write_book(tmp_path / "nbs/02_c/01_d.ipynb", "# Two\nSee [one](../01_a/01_weigh.ipynb#weighing), [him](https://x.org/y).", "1 + 1")
    for name, text in {"places": "_here = 1\ndef root() -> str:\n    'Where.'\n    return ''\n", "a/__init__": "", "a/weigh": GOOD,
                       "c/__init__": "", "c/d": "from ..a.weigh import weigh\nfrom ..a import weigh as w\nw.Scale\n"}.items():
        path = tmp_path / f"lgdcnn/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize("rule", RULES)
def test_a_good_house_passes(rule, small_house):
    assert rule(small_house) == set()


def change(house: Path, name: str, old: str, new: str):
    path = house / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


WEIGH, D = "lgdcnn/a/weigh.py", "lgdcnn/c/d.py"
WRONG = [
    (too_many_rooms, lambda h: [write_book(h / f"nbs/01_a/{k:02}_x.ipynb", "1") for k in range(3, 12)], "01_a"),
    (wrong_numbers, lambda h: (h / "nbs/01_a/02_b.ipynb").rename(h / "nbs/01_a/03_b.ipynb"), "01_a/03_b.ipynb"),
    (wrong_numbers, lambda h: (h / "nbs/02_c").rename(h / "nbs/03_c"), "03_c"),
    (bare_headings, lambda h: write_book(h / "nbs/02_c/01_d.ipynb", "# Two\n\n$$ a = bcd + efg + hij $$", "1"), "02_c/01_d.ipynb: Two"),
    (bare_headings, lambda h: write_book(h / "nbs/02_c/01_d.ipynb", "# Two\n\nA sentence stands here.\n\n## Three", "1"), "02_c/01_d.ipynb: Three"),
    (long_cells, lambda h: write_book(h / "nbs/02_c/01_d.ipynb", "# Two\nWords come first.", LONG_CLASS + "\nx = 1"), "02_c/01_d.ipynb: Shelf"),
    (long_cells, lambda h: write_book(h / "nbs/02_c/01_d.ipynb", "# Two\nWords come first.", "Shelf()", LONG_CLASS), "02_c/01_d.ipynb: Shelf"),
    (long_cells, lambda h: write_book(h / "nbs/02_c/01_d.ipynb", LONG_CLASS.replace("export", "exporti")), "02_c/01_d.ipynb: Shelf"),
    (long_cells, lambda h: write_book(h / "nbs/02_c/01_d.ipynb", "#| export\nx = 1\n" + "\n".join(f"y{k} = {k}" for k in range(50))),
     "02_c/01_d.ipynb: x = 1"),
    (dead_links, lambda h: write_book(h / "nbs/figures/f.ipynb", "# F\n[x](../01_a/01_gone.ipynb#y)"), "figures/f.ipynb: ../01_a/01_gone.ipynb#y"),
    (long_modules, lambda h: change(h, WEIGH, "\n\n", "\n" * 300), "a.weigh"),
    (long_functions, lambda h: change(h, WEIGH, "return x", "\n" * 39 + "    return x"), "a.weigh.weigh"),
    (long_functions, lambda h: change(h, WEIGH, "return _off", "def inner():\n" + "\n" * 40 + "            return 1\n        return _off"), None),
    (undocumented, lambda h: change(h, WEIGH, '"Read the scale."', "pass"), "a.weigh.Scale.read"),
    (undocumented, lambda h: change(h, WEIGH, '"Weighs."', "pass"), "a.weigh.Scale"),
    (untyped, lambda h: change(h, WEIGH, "*more: float", "*more"), "a.weigh.weigh"),
    (untyped, lambda h: change(h, WEIGH, "(self) -> float", "(self)"), "a.weigh.Scale.read"),
    (private_imports, lambda h: change(h, D, "import weigh\n", "import _offset\n"), "c.d: a.weigh._offset"),
    (private_imports, lambda h: change(h, D, "w.Scale", "w._offset(1)"), "c.d: a.weigh._offset"),
    (private_imports, lambda h: change(h, D, "w.Scale", "def f():\n    from ..places import _here\n"), "c.d: places._here"),
]


@pytest.mark.parametrize("rule, spoil, found", WRONG)
def test_a_house_where_one_thing_is_wrong_does_not_pass(rule, spoil, found, small_house):
    spoil(small_house)
    assert rule(small_house) == ({found} if found else {"a.weigh.Scale.read", "a.weigh.Scale.read.inner"})


def test_every_rule_can_fail():
    assert {rule for rule, _, _ in WRONG} == set(RULES)


# the tour in CONTRIBUTING.md

def tour(root: Path) -> list[tuple[str, str, str, str]]:  # folder, notebook, name, and the room it comes from
    lines = re.findall(r"(?m)^\| .*\? \| `(\w+)` \| `(\w+)` \| `(\w+)`(?:, from `([\w/]+)`)? \|$", (root / "CONTRIBUTING.md").read_text())
    return some(lines)


def test_four_questions_are_answered_by_names(root):
    assert len(tour(root)) == 4
    for folder, notebook, name, source in tour(root):
        book = root / "nbs" / folder / f"{notebook}.ipynb"
        assert name in code_of(book), f"{book} does not know {name}"
        assert defines(book, name) or source, f"{book} only uses {name}: say where it is from"
        if source: assert defines(home := root / "nbs" / f"{source}.ipynb", name), f"{home} does not define {name}"


def code_of(book: Path) -> str: return "\n".join(text for kind, text in cells(book) if kind == "code")


def defines(book: Path, name: str) -> bool:  # in a cell that is exported
    return any(re.search(rf"(?m)^(def|class) {name}\b", text) for kind, text in cells(book) if re.match(r"#\| *export", text))


def test_a_name_that_moved_away_is_missed(tmp_path):
    write_book(tmp_path / "a.ipynb", "#| export\ndef weigh(): ...", "def shown(): ...")
    assert defines(tmp_path / "a.ipynb", "weigh") and not defines(tmp_path / "a.ipynb", "weig") and not defines(tmp_path / "a.ipynb", "shown")
    (tmp_path / "CONTRIBUTING.md").write_text("No tour here.")
    with pytest.raises(AssertionError, match="nothing to look at"): tour(tmp_path)
