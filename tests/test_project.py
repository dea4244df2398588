"The project is what it says: package and README come from notebooks, settings agree, importing is quick and harmless."
import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHAPTERS = 13  # folders of the package


def notebooks(root):
    return [p for p in sorted((root / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def modules_below(folder):
    "Read all modules of a package, its chapters' too; what is found is told by its path."
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*.py"))}


def exported(path):
    "Name the module that a notebook exports, as nbdev does: 'data.splits'; '' for none."
    found = re.search(r"#\| default_exp ([\w.]+)", "".join(map(source, cells(path))))
    return found[1] if found else ""


def book(root):
    "List the modules in the order in which they are read: chapter by chapter."
    return [m for p in notebooks(root) if re.match(r"\d\d\w*_", p.relative_to(root / "nbs").parts[0]) and (m := exported(p))]


def imported(module, root):
    "Name the modules of the package that a module imports at its top."
    path = root / "lgdcnn" / f"{module.replace('.', '/')}.py"
    here, found = module.split(".")[:-1], set()
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ImportFrom) or not node.level: continue
        base = here[:len(here) + 1 - node.level] + (node.module.split(".") if node.module else [])
        for name in node.names:
            tried = [".".join(base + more + end) for more in ([name.name], []) for end in ([], ["__init__"])]
            found |= set([n for n in tried if n and (root / "lgdcnn" / f"{n.replace('.', '/')}.py").is_file()][:1])
    return found - {module, "__init__"}  # the root gives the version, and names looked up on first use


def python(code, **kw):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **kw).stdout


def test_package_is_exported_from_the_notebooks(root, tmp_path):
    for name in ("nbs", "pyproject.toml", "README.md"):
        (shutil.copytree if (root / name).is_dir() else shutil.copy)(root / name, tmp_path / name)
    subprocess.run([sys.executable, "-c", "from nbdev.doclinks import nbdev_export; nbdev_export()"],
                   cwd=tmp_path, check=True, capture_output=True)
    fresh, ours = modules_below(tmp_path / "lgdcnn"), modules_below(root / "lgdcnn")
    assert len(ours) > 80 and len({name.partition("/")[0] for name in ours if "/" in name}) >= CHAPTERS
    assert sorted(fresh) == sorted(ours), "a module without its notebook, or a notebook not exported: make export"
    differing = [name for name in ours if ours[name] != fresh[name]]
    assert not differing, f"{differing} differ from their notebooks: make export"


def test_readme_is_made_from_its_notebook(root, tmp_path):
    here = Path(sys.executable).parent  # the environment that runs the tests: none is built for this one
    made = tmp_path / "README.md"
    subprocess.run(["make", "-s", "readme", f"BIN={here}", f"README={made}"], cwd=root, check=True, capture_output=True)
    assert made.read_text() == (root / "README.md").read_text(), "make readme"


@pytest.mark.parametrize("target", ["readme", "demo", "test", "quick", "figures", "docs", "check", "lab"])
def test_make_in_an_environment_that_is_there_installs_nothing(target, root):
    told = subprocess.run(["make", "--dry-run", target, "BIN=/an/environment/bin"], cwd=root, check=True, capture_output=True, text=True).stdout
    assert "/an/environment/bin/" in told and "venv" not in told and "pip install" not in told


def test_settings_ini_agrees_with_pyproject(root):
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(root / "settings.ini")
    old, new = ini["DEFAULT"], tomllib.loads((root / "pyproject.toml").read_text())
    nbdev, project = new["tool"]["nbdev"], new["project"]
    assert old["lib_name"] == project["name"]
    assert old["description"] == project["description"]
    assert f">={old['min_python']}" == project["requires-python"]
    assert {k: old[k] for k in ("lib_path", "nbs_path", "doc_path", "branch", "tst_flags")} \
        == {k: nbdev[k] for k in ("lib_path", "nbs_path", "doc_path", "branch", "tst_flags")}
    assert old["allowed_cell_metadata_keys"].split() == nbdev["allowed_cell_metadata_keys"]
    from lgdcnn import __version__
    assert old["version"] == __version__


def test_no_two_files_of_tests_have_one_name(root):
    "They are imported by their names alone, and pytest refuses the second."
    names = [p.name for p in (root / "tests").rglob("*.py")]
    assert len(names) > 60 and not {n for n in names if names.count(n) > 1}


def test_modules_import_only_from_above(root):
    order = book(root)
    assert len(order) > 80 and len(set(order)) == len(order)
    edges = 0
    for i, module in enumerate(order):
        known = imported(module, root)
        below, edges = known & set(order[i:]), edges + len(known)
        assert not below, f"{module} imports {below}, which stand below it"
    assert edges > 250, "a test of imports that sees none proves nothing"


def test_import_is_quick_and_changes_nothing():
    code = """
import time, sys, os, random
before = dict(os.environ), random.getstate()
start = time.perf_counter(); import lgdcnn; seconds = time.perf_counter() - start
assert (dict(os.environ), random.getstate()) == before
assert not {"torch", "numpy", "pandas"} & set(sys.modules)
print(seconds)"""
    assert min(float(python(code)) for _ in range(3)) < 0.5


def test_importing_everything_leaves_the_random_state(root):
    names = [n.removesuffix(".py").replace("/", ".") for n in modules_below(root / "lgdcnn")]
    modules = [n for n in names if not n.rpartition(".")[2].startswith("_")]
    assert len(modules) > 80
    code = f"""
import importlib, torch, numpy as np
torch.manual_seed(1); np.random.seed(1)
before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_default_dtype(), torch.get_num_threads()
for m in {modules!r}: importlib.import_module("lgdcnn." + m)
assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
assert before[2:] == (torch.get_default_dtype(), torch.get_num_threads())"""
    python(code)


def test_training_needs_only_torch_and_numpy():
    code = """
import sys
for name in ("pandas", "pymatgen", "sklearn", "matplotlib", "seaborn", "fastcore", "safetensors", "pyarrow", "tqdm", "click"):
    sys.modules[name] = None  # importing it now fails
import torch, lgdcnn.training.loop, lgdcnn.networks.models, lgdcnn.data.datasets
from lgdcnn.composition import featurize
from lgdcnn.config import MODELS, PROTOCOLS
from lgdcnn.training.loop import Rows, CompositionTensors, fit_network
net = lgdcnn.networks.models.build_model(MODELS["dcnn-k1"])
rows = Rows(CompositionTensors(featurize(["NaCl", "KCl"])), torch.tensor([[1.0], [-1.0]]))
print(len(fit_network(net, rows, PROTOCOLS["fast"].replace(epochs=1))))"""
    assert python(code).strip() == "1"


def test_notebooks_are_clean_and_parametrised(root):
    for path in notebooks(root):
        tagged = [c for c in cells(path) if "parameters" in c["metadata"].get("tags", [])]
        if path.parent.name in ("figures", "benchmarks"):
            assert len(tagged) == 1, f"{path.name} needs one cell with the tag 'parameters'"
        for cell in cells(path):
            if cell["cell_type"] != "code": continue
            assert cell["execution_count"] is None, f"{path.name}: run nbdev-clean"
            assert not [o for o in cell["outputs"] if o["output_type"] == "error"], f"{path.name} holds an error"
            text = json.dumps(cell["outputs"])
            leaks = [w for w in (str(root), sys.prefix, str(Path.home()), "PYTHONPATH", "Warning") if w in text]
            assert not leaks, f"{path.name} shows {leaks} in a stored output"


@pytest.mark.parametrize("name", ["mat2vec.npy", "magpie.csv", "xenonpy.csv", "published_mae.csv", "matbench_best.csv", "matbench_folds.csv", "matbench_lgdcnn_predictions.csv.gz", "datasets.csv", "dataset_files.csv", "cecv_reference.csv"])
def test_package_data_travels_with_the_package(name):
    from importlib import resources
    assert (resources.files("lgdcnn") / "data" / name).is_file()
