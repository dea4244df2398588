"What is imported is declared where it is needed, what is declared is used, and what is pinned is one tested set."
import ast
import json
import re
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DISTRIBUTIONS = {"sklearn": "scikit-learn", "IPython": "ipython", "myst_nb": "myst-nb", "xdist": "pytest-xdist"}  # where the name of the import is another
RUN = {"papermill": "figures draws with it", "ipykernel": "the kernel in which papermill runs a notebook"}  # not imported, but run
OPTIONAL = {"lightgbm": "peers", "openpyxl": "excel", "smact": "screening", "distributed": "cluster", "submitit": "cluster",
            "ipywidgets": "app", "voila": "app", "traitlets": "app"}  # imported where it is used, with a remedy in the message


def declared(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {group: {canonicalize_name(Requirement(r).name): Requirement(r) for r in lines} for group, lines in groups.items()}


def imported(code):
    "Name what some code imports from elsewhere, without the standard library and the project itself."
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import): names |= {a.name.split(".")[0] for a in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0: names.add(node.module.split(".")[0])
    return {canonicalize_name(DISTRIBUTIONS.get(n, n)) for n in names - set(sys.stdlib_module_names) - {"lgdcnn"}}


def of_folder(root, name):
    files = sorted((root / name).rglob("*.py"))
    ours = {canonicalize_name(f.stem) for f in [*files, *(root / "docs").glob("*.py")]}
    return set().union(*(imported(f.read_text()) for f in files)) - ours


def of_notebooks(root):
    found = set()
    for path in (root / "nbs").rglob("*.ipynb"):
        if ".ipynb_checkpoints" in path.parts: continue
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] != "code" or "".join(cell["source"]).startswith(("%%", "!")): continue  # what a shell runs
            found |= imported("".join(line for line in cell["source"] if not re.match(r"\s*[%!]", line)))
    return found


def test_what_the_package_imports_it_declares(root):
    groups, found = declared(root), of_folder(root, "lgdcnn")
    lacking = found - set(groups[""]) - set(OPTIONAL)
    assert not lacking, f"{sorted(lacking)} are imported in lgdcnn/, but pyproject.toml does not name them"
    for name, group in OPTIONAL.items(): assert name in found and name in groups[group]


def test_what_is_declared_is_used(root):
    groups, code = declared(root), "".join(f.read_text() for f in (root / "lgdcnn").rglob("*.py"))
    idle = set(groups[""]) - of_folder(root, "lgdcnn") - set(RUN)
    assert not idle, f"{sorted(idle)} are declared, but nothing in lgdcnn/ uses them"
    assert "papermill" in code and '"python3"' in code
    text = "".join(p.read_text() for p in (root / "Makefile", *(root / "docs").glob("*.py")))
    imports = of_folder(root, "tests") | of_folder(root, "docs") | of_notebooks(root) | set(OPTIONAL)
    for group in set(groups) - {""}:
        for name in groups[group]:
            command = {"build": "-m build", "pytest-xdist": "pytest -n"}.get(name, name.replace("-", "[-_]"))
            assert name in imports or re.search(rf"\b{command}\b", text), f"nothing uses {name} of the extra {group}"


@pytest.mark.parametrize("folder, groups", [("tests", ("", "notebooks", "dev", "peers", "docs", "excel", "cluster")), ("docs", ("", "notebooks", "docs")),
                                            ("notebooks", ("", "notebooks", "peers", "excel", "screening", "cluster", "app"))])
def test_tests_pages_and_notebooks_name_what_they_need(root, folder, groups):
    known = set().union(*(declared(root)[g] for g in groups))
    found = of_notebooks(root) if folder == "notebooks" else of_folder(root, folder)
    assert not found - known, f"imported in {folder}, declared nowhere"


def pins(root):
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if "==" in line]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_the_pins_lie_in_the_ranges(root):
    pinned = pins(root)
    for name, requirement in {n: r for group in declared(root).values() for n, r in group.items()}.items():
        assert name in pinned, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pinned[name]), f"{name}=={pinned[name]} is outside of {requirement}"


def needed(requirements):
    "Follow requirements through what is installed; raises `PackageNotFoundError` where something is not."
    todo, seen = list(requirements), set()
    while todo:
        r = todo.pop()
        for extra in ("", *r.extras):
            if (canonicalize_name(r.name), extra) in seen: continue
            seen.add((canonicalize_name(r.name), extra))
            for line in metadata.distribution(r.name).requires or ():
                one = Requirement(line)
                if one.marker is None or one.marker.evaluate({"extra": extra}): todo.append(one)
    return {name for name, _ in seen}


def test_nothing_is_pinned_that_nothing_needs(root):
    try: names = needed(r for group in declared(root).values() for r in group.values())
    except metadata.PackageNotFoundError as e: pytest.skip(f"not everything is installed: {e}")
    by_hand = {"elementembeddings"}  # apart from the environment, for one test; see the Makefile
    platforms = {"importlib-metadata", "zipp", "tzdata", "pyyaml"}  # needed by some Pythons and systems only
    assert not set(pins(root)) - names - by_hand - platforms
