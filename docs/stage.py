"Lay out the sources of the site: notebooks as pages, and the pages that are made from what the repository holds."
import hashlib
import json
import os
import posixpath
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from tables import records, set_pages, table_page

SHELVES = {"tutorials": "Tutorials", "benchmarks": "Benchmarks"}  # folders of notebooks that are a list, not a book
CHAPTERS = {"ground": "Ground", "data": "Data", "networks": "Networks", "training": "Training", "trust": "Trust",
            "estimators": "Estimators", "fusion": "Fusion", "properties": "Properties", "cecv": "CECV",
            "benchmark": "Benchmark", "comparison": "Comparison", "studies": "Studies", "design": "Design",
            "plots": "Plots", "shortlist": "Shortlist", "cluster": "Cluster", "screening": "Screening",
            "cli": "Command line"}
WHOLE = ("estimators.regressor", "estimators.classifier", "fusion.fused")  # classes that inherit what readers look for
TUTORIALS = ("quick_start", "own_data", "shortlist", "app", "uncertainty", "screening", "properties", "transfer",
             "new_encoder", "plugin", "data_tour", "silicon", "borrowed_machine")  # in the order of reading; others follow
LINK = re.compile(r'(?P<text>\[[^\]\[]*\])\((?P<a>[^)\s]+)\)|src="(?P<b>[^"]+)"')


def stage(root: Path, target: Path) -> None:
    "Write all sources of the site into `target`."
    target.mkdir(parents=True)
    shutil.copytree(root / "paper_figures", target / "paper_figures")
    shutil.copytree(root / "results", target / "results")
    shutil.copy(root / "CHANGELOG.md", target)
    manifest = json.loads((root / "paper_figures" / "manifest.json").read_text(encoding="utf-8"))
    nbs = root / "nbs"
    found = [p for p in sorted(nbs.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    books = {p.relative_to(nbs).as_posix(): read(p) for p in found}
    for name, nb in books.items():
        page = as_page(nb, name, manifest)
        if name == "index.ipynb": page["cells"].append(markdown(contents(books)))
        write(target / name, json.dumps(page))
    for shelf, title in SHELVES.items(): write(target / f"{shelf}.md", list_page(books, shelf, title, toctree))
    for number, heading, rooms in chapters(books):
        folder = rooms[0].split("/")[0]
        write(target / f"{folder}.md", list_page(books, folder, f"{number} · {heading}"))
    write(target / "figures.md", gallery(books, manifest))
    for name, text in results_pages(root / "results").items(): write(target / f"{name}.md", text)
    found = records(root)
    write(target / "table.md", table_page(found))
    set_pages(root, found, target)
    write(target / "differences.md", quoted((root / "docs" / "differences.md").read_text(encoding="utf-8"), books))
    write(target / "commands.md", commands())
    hidden = ("", "__init__", "benchmark.__main__")
    modules = {m.removesuffix(".__init__"): name for name, nb in books.items() if (m := exported(nb)) not in hidden}
    for module, name in modules.items(): write(target / "api" / f"{module}.md", api_page(module, name))
    write(target / "api.md", api_index(list(modules)))


def write(path: Path, text: str) -> None:
    "Write a file and the folders above it."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read(path: Path) -> dict: return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str: return "".join(cell["source"])

def markdown(text: str) -> dict:
    "Make a cell of prose."
    return {"cell_type": "markdown", "id": hashlib.sha256(text.encode()).hexdigest()[:8], "metadata": {}, "source": text}

def prose(nb: dict) -> list[str]: return [source(c) for c in nb["cells"] if c["cell_type"] == "markdown"]

def promise(nb: dict) -> str:
    "Return what a notebook says of itself in a line, or in its first sentence."
    text = prose(nb)[0]
    if quoted := re.search(r"(?m)^> (.+)$", text): return quoted[1]
    aside = r"\*\*Claim\.?\*\*\s*|!\[[^]]*\]\([^)]*\)|\*Alt text:.*?\*"
    plain = re.sub(aside, "", "\n".join(text.splitlines()[1:]), flags=re.S)
    return re.split(r"(?<=[.?])\s", " ".join(plain.split()), maxsplit=1)[0]

def title(nb: dict) -> str: return prose(nb)[0].splitlines()[0].lstrip("# ")

def exported(nb: dict) -> str:
    "Return the module that a notebook exports, or nothing."
    found = re.search(r"#\| default_exp ([\w.]+)", "".join(source(c) for c in nb["cells"] if c["cell_type"] == "code"))
    return found[1] if found else ""


# notebooks

def as_page(nb: dict, name: str, manifest: dict) -> dict:
    "Turn a notebook into a page: no cells for nbdev alone, links that lead to pages, a figure where there is one."
    cells = [c for c in (shown(c) for c in nb["cells"]) if c]
    for cell in cells:
        if cell["cell_type"] == "markdown": cell["source"] = relink(source(cell), name)
        for out in cell.get("outputs", ()):
            if text := out.get("data", {}).get("text/markdown"): out["data"]["text/markdown"] = relink("".join(text), name)
    if number := number_of(name): cells[0]["source"] = source(cells[0]).replace("# ", f"# {number} · ", 1)
    if (figure := posixpath.basename(name).removesuffix(".ipynb")) in manifest:
        own = rf"!\[[^]]*\]\([^)]*paper_figures/{figure}\.png\)\n*"  # shown below, with its files
        cells[0]["source"] = re.sub(own, "", source(cells[0]))
        cells.insert(1, markdown(as_drawn(figure, manifest[figure], "../", source(cells[0]))))
    return {**nb, "cells": cells}


def number_of(name: str) -> str:
    "Number a page as books do: '3.2' for the second room of the third chapter, '90' for a page beside them; '' for others."
    numbers = [re.match(r"(\d\d)_", part) for part in name.split("/")]
    return ".".join(str(int(n[1])) for n in numbers) if all(numbers) else ""


def shown(cell: dict) -> dict | None:
    "Return a cell as readers see it; None for those that only nbdev needs."
    text = source(cell)
    if cell["cell_type"] != "code": return cell
    if re.match(r"#\| *(hide|default_exp)\b", text): return None
    text = re.sub(r"(?m)^#\|.*\n?", "", text)
    tags = ["remove-input" if t == "hide-input" else t for t in cell["metadata"].get("tags", [])]
    return {**cell, "source": text, "metadata": {"tags": tags}} if text.strip() else None


def relink(text: str, name: str, at: str | None = None) -> str:
    "Let the links of a notebook lead to pages, from the folder `at` if not its own; what has no page stays as text."
    def replace(m):
        url = m["a"] or m["b"]
        new = page_of(url, posixpath.dirname(name), at)
        if m["b"]: return f'src="{new or url}"'
        return f"{m['text']}({new})" if new else m["text"][1:-1]
    return LINK.sub(replace, text)


def page_of(url: str, folder: str, at: str | None = None) -> str | None:
    "Find the page behind a link in a notebook of `nbs/folder`, as seen from `at`; None if it has none."
    parts = urlsplit(url)
    if parts.scheme or not parts.path: return url
    path = posixpath.normpath(posixpath.join("nbs", folder, parts.path))  # from the root of the repository
    if path.startswith("nbs/"): path = path[4:]
    elif path.split("/")[0] == "results": path = "results.md"
    elif not path.startswith("paper_figures/") and path != "CHANGELOG.md": return None
    if path in (*SHELVES, "figures") or re.fullmatch(r"\d\d_[a-z]+", path): path += ".md"
    return posixpath.relpath(path, (folder if at is None else at) or ".") + (f"#{parts.fragment}" if parts.fragment else "")


# pages made from what is there

def toctree(entries: list[str], caption: str = "") -> str:
    return "\n".join(["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), "", *entries, "```", ""])


def contents(books: dict) -> str:
    "List all pages, for the side bar."
    beside = [n for n in books if "/" not in n and number_of(n)]
    shelves = [toctree([f"{rooms[0].split('/')[0]}.md", *rooms], f"{number} · {heading}")
               for number, heading, rooms in chapters(books)]
    return "\n".join([toctree(["tutorials", "figures", "table", "differences"], "Read"), *shelves,
                      toctree(beside, "Beside the chapters"),
                      toctree(["commands", "api", "results", "benchmarks", "CHANGELOG"], "Look up")])


def chapters(books: dict) -> list[tuple[int, str, list[str]]]:  # number, heading, rooms
    "Sort the rooms into their chapters; raises ValueError if there is none, or one without a heading."
    found = sorted({n.split("/")[0] for n in books if "/" in n and number_of(n)})
    if not found or (bare := [f for f in found if f[3:] not in CHAPTERS]):
        raise ValueError(f"no chapters in nbs/, or some without a heading in docs/stage.py: {found and bare}")
    return [(int(f[:2]), CHAPTERS[f[3:]], [n for n in books if n.startswith(f"{f}/")]) for f in found]


def ordered(names: list[str]) -> list[str]:
    "Put tutorials into the order of reading; others stay as they are."
    place = {f"tutorials/{name}.ipynb": k for k, name in enumerate(TUTORIALS)}
    return sorted(names, key=lambda n: place.get(n, len(place)))


def list_page(books: dict, shelf: str, heading: str, tree=lambda names: "") -> str:
    "List the notebooks of a folder with their titles, and a sentence each."
    names = ordered([n for n in books if n.startswith(f"{shelf}/")])
    lines = [f"- [{title(books[n])}]({n}): {relink(promise(books[n]), n, at='')}" for n in names]
    return "\n".join([f"# {heading}", "", *lines, "", tree(names)])


def as_drawn(name: str, entry: dict, up: str, text: str) -> str:
    "Show a figure with its verdict and its files; the alt text is what the notebook says of it."
    alt = re.search(r"\*Alt text: (.*?)\*", text, re.S)
    says = "; ".join(line.strip() for line in entry.get("says", []))
    files = " · ".join(f"[{f.rsplit('.')[-1].upper()}]({up}paper_figures/{f})" for f in entry["files"])
    return "\n".join([f'<img src="{up}paper_figures/{name}.png" class="gallery" '
                      f'alt="{" ".join(alt[1].split()).replace(chr(34), "") if alt else entry["title"]}">', "",
                      *([f"**Verdict**: {says}.", ""] if says else []), files, ""])


def gallery(books: dict, manifest: dict) -> str:
    "Show all figures of the manifest, with their claims, verdicts and inputs."
    parts = ["# Figures", "", "Drawn by `lgdcnn figures` from the files named below each; a verdict is what the notebook "
             "itself printed when it held its claim against the numbers.", ""]
    for name, entry in manifest.items():
        page = f"figures/{name}.ipynb"
        needs = ", ".join(f"`{f}`" for f in entry["from"]["inputs"]) or "the package alone"
        drawn = as_drawn(name, entry, "", prose(books[page])[0])
        parts += [f"## [{title(books[page])}]({page})", "", drawn, f"From {needs}.", ""]
    return "\n".join([*parts, toctree([n for n in books if n.startswith("figures/")])])


FEW = 60  # files that a page of results lists at most; of more, it counts them by folder


def results_pages(folder: Path) -> dict[str, str]:  # name to text
    "List the measured files, a page for each folder; where there are many, how many."
    pages, lines = {}, []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        files = sorted(p for p in sub.rglob("*") if p.is_file())
        about = file_lines(files, folder) if len(files) <= FEW else folder_lines(files, sub)
        back = "[All results](results.md)" + (", [the benchmark as a table](table.md)" if sub.name == "benchmark" else "")
        pages[f"results_{sub.name}"] = "\n".join([f"# results/{sub.name}", "", *about, "", back, ""])
        lines.append(f"| [{sub.name}](results_{sub.name}.md) | {len(files):,} |")
    head = ["# Results", "", "What was measured, as it lies in `results/`. The benchmark is easier to read "
            "as [a table](table.md).", "", "| folder | files |", "|---|--:|"]
    pages["results"] = "\n".join([*head, *lines, "", toctree(list(pages))])
    return pages


def file_lines(files: list[Path], folder: Path) -> list[str]:
    "Tabulate files with their rows."
    def rows(f): return f"{sum(1 for _ in f.open(encoding='utf-8')) - 1:,}" if f.suffix == ".csv" else ""
    names = [(f, f.relative_to(folder.parent).as_posix()) for f in files]
    return ["| file | rows |", "|---|--:|", *(f"| [{name}]({name}) | {rows(f)} |" for f, name in names)]


def folder_lines(files: list[Path], folder: Path) -> list[str]:
    "Tabulate folders with the number of their files."
    counts = {}
    for name in (f.parent.relative_to(folder.parent).as_posix() for f in files): counts[name] = counts.get(name, 0) + 1
    return ["| folder | files |", "|---|--:|", *(f"| `results/{name}` | {n:,} |" for name, n in counts.items())]


def quoted(text: str, books: dict) -> str:
    "Fill in the paragraphs that a page quotes from notebooks; raises ValueError where one is gone."
    def fill(m):
        name, start = m[1], m[2]
        found = [p for cell in prose(books.get(name, {"cells": []})) for p in cell.split("\n\n") if p.startswith(start)]
        if len(found) != 1:
            raise ValueError(f"docs/differences.md quotes {name}: {start!r} begins {len(found)} paragraphs there")
        words = relink(found[0], name, at="")
        return "\n".join(f"> {line}" for line in [*words.splitlines(), "", f"[{title(books[name])}]({name})"])
    return re.sub(r"(?m)^QUOTE (\S+): (.*)$", fill, text)


def commands() -> str:
    "Show the help of each command."
    import click

    from lgdcnn.cli import main
    parts = ["# Commands", ""]
    def add(command, words):
        context = click.Context(command, info_name=" ".join(words), color=False, terminal_width=100)
        parts.extend([f"{'#' * (len(words) + 1)} `{' '.join(words)}`", "", "```text", command.get_help(context), "```", ""])
        if isinstance(command, click.Group):
            for name in command.list_commands(context): add(command.get_command(context, name), [*words, name])
    add(main, ["lgdcnn"])
    return "\n".join(parts).replace(os.path.expanduser("~"), "~")


def api_page(module: str, notebook: str) -> str:
    "Let sphinx describe a module; an estimator with all that it can do, as its classes are put together from several."
    whole = ["   :inherited-members: BaseEstimator"] if module in WHOLE else []
    return "\n".join([f"# `lgdcnn.{module}`", "", f"Made from [{notebook}](../{notebook}).", "", "```{eval-rst}",
                      f".. automodule:: lgdcnn.{module}", "   :members:", *whole, "   :show-inheritance:", "```", ""])


def api_index(modules: list[str]) -> str:
    lines = [f"- [lgdcnn.{m}](api/{m}.md)" for m in modules]  # dotted names, in the order of the book
    return "\n".join(["# Modules", "", "In the order of the house: a module imports only from above it.", "", *lines, "",
                      toctree([f"api/{m}" for m in modules])])
