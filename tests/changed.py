"Which tests a change asks for: `pytest --quick`."
import json
import re
import subprocess
from pathlib import Path

ALWAYS = {"test_project.py"}  # exported as it is written, README made from its notebook, settings agree


def git(root: Path, *words: str) -> list[str]:
    run = subprocess.run(["git", "-c", "core.quotePath=false", *words], cwd=root, capture_output=True, text=True)
    return run.stdout.splitlines() if run.returncode == 0 else []


def changed_files(root: Path) -> list[str]:
    "List what differs from main; on main, from the last commit; where nothing does, what the last commit changed."
    fork = next((f[0] for main in ("origin/main", "main") if (f := git(root, "merge-base", main, "HEAD"))), "HEAD")
    untracked = git(root, "ls-files", "--others", "--exclude-standard")
    return [*git(root, "diff", "--name-only", fork), *untracked] or git(root, "diff", "--name-only", "HEAD~1")


def module_of(notebook: Path) -> str:
    "Name the module that a notebook exports; '' if it exports none."
    code = "".join("".join(c["source"]) for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"])
    found = re.search(r"#\| default_exp ([\w.]+)", code)
    return found[1] if found else ""


def selection(changed: list[str], root: Path) -> set[str]:
    "Name the test files, and the notebooks' tests, that a change asks for."
    wanted, modules = set(ALWAYS), set()
    for name in changed:
        path = root / name
        if name.startswith("tests/") and path.name.startswith("test_"): wanted.add(path.name)
        elif name.startswith("nbs/figures/") or name.startswith("paper_figures/"): wanted.add("test_figures.py")
        elif name.startswith("nbs/") and path.suffix == ".ipynb" and path.is_file():
            wanted.add(f"tests/test_notebooks.py::test_notebook_runs[{Path(name).relative_to('nbs')}]")
            modules.add(module_of(path))
        elif name.startswith("lgdcnn/") and path.suffix == ".py":
            modules.add(".".join(Path(name).relative_to("lgdcnn").with_suffix("").parts))
        wanted |= {test for place, test in PLACES.items() if name.startswith(place)}
    return wanted | tests_of(modules - {"", "_modidx"}, root)


PLACES = {"docs/": "test_docs.py", "pyproject.toml": "test_dependencies.py", "constraints.txt": "test_dependencies.py",
          "README.md": "test_readme.py", "results/": "test_results.py", "lgdcnn/data/": "test_project.py", ".github/": "test_project.py"}


def tests_of(modules: set[str], root: Path) -> set[str]:
    "Name the test files that import one of some modules, as a module or through a name that the package gives."
    import lgdcnn
    found, modules = set(), {m.removesuffix(".__init__") for m in modules}
    for path in sorted((root / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        imported = set(re.findall(r"(?:from|import) lgdcnn\.([\w.]+)", text))
        for chapter, names in re.findall(r"from lgdcnn\.([\w.]+) import ([^\n#]+)", text):
            imported |= {f"{chapter}.{name}" for name in re.findall(r"\w+", names)}
        for names in re.findall(r"from lgdcnn import ([^\n#]+)", text):
            imported |= {lgdcnn.HOMES.get(name, name) for name in re.findall(r"\w+", names)}
        if imported & modules: found.add(path.name)
    return found
