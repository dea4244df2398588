"Reading and running the notebooks leaves the clone as it is: none exports the package, and saving changes nothing but what was edited."
import json
import re
import shutil
from types import SimpleNamespace

import nbformat
import pytest
from test_project import cells, notebooks, source


@pytest.fixture(scope="module")
def save(root):
    "Save the text of a notebook at a path as `make lab` does, and return what is written."
    c = SimpleNamespace(FileContentsManager=SimpleNamespace())  # as Jupyter runs it
    exec((root / "lab" / "jupyter_server_config.py").read_text(encoding="utf-8"), {"c": c})
    hook = c.FileContentsManager.pre_save_hook
    def save(nb, path):
        model = {"type": "notebook", "content": nb}
        hook(model=model, path=path.name, contents_manager=SimpleNamespace(root_dir=str(path.parent)))
        return nbformat.writes(nbformat.from_dict(model["content"]), version=4) + "\n"
    return save


def opened(path):
    "A notebook as the browser sends it back after running all: the kernel's own names, counts, new outputs."
    nb = json.loads(nbformat.writes(nbformat.read(path, as_version=4)))
    nb["metadata"] |= {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
                       "language_info": {"name": "python", "version": "3.99.0"}}
    for k, cell in enumerate(c for c in nb["cells"] if c["cell_type"] == "code"):
        cell["execution_count"], cell["metadata"]["trusted"] = k + 1, True
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "new\n"}]
    return nb


def test_no_notebook_writes_the_package(root):
    found = [p.name for p in notebooks(root) for c in cells(p) if c["cell_type"] == "code"
             and re.search(r"nbdev_export\(|nbdev-export|export_nb|nb_export\(", source(c))]
    assert len(notebooks(root)) > 100 and not found, f"Run All would write lgdcnn/: {found}"


def test_every_notebook_is_saved_as_it_was(root, save):
    changed = [p.name for p in notebooks(root) if save(opened(p), p) != p.read_text(encoding="utf-8")]
    assert not changed


def test_what_was_edited_is_saved_with_what_it_shows(root, save, tmp_path, monkeypatch):
    path = tmp_path / "nbs" / "own_data.ipynb"
    path.parent.mkdir()
    shutil.copy(root / "nbs/tutorials/own_data.ipynb", path)
    shutil.copy(root / "pyproject.toml", tmp_path)
    before, nb = json.loads(path.read_text(encoding="utf-8")), opened(path)
    code = [k for k, c in enumerate(nb["cells"]) if c["cell_type"] == "code"]
    nb["cells"][code[1]]["source"] += "\n1 + 1"
    after = json.loads(save(nb, path))
    assert [k for k in range(len(nb["cells"])) if after["cells"][k] != before["cells"][k]] == [code[1]]
    assert after["cells"][code[1]]["outputs"][0]["text"] == ["new\n"]
    monkeypatch.setenv("OUTPUTS", "save")
    after = json.loads(save(opened(path), path))
    assert all(after["cells"][k]["outputs"][0]["text"] == ["new\n"] for k in code)
    assert after["metadata"] == before["metadata"]


def test_plotting_code_is_folded_away(root):
    "In figures, and where pages leave the code out: the picture comes first, the code at a click."
    folded = {p.name: [c for c in cells(p) if c["metadata"].get("jupyter", {}).get("source_hidden")] for p in notebooks(root)}
    figures = [p for p in notebooks(root) if p.parent.name == "figures"]
    assert len(figures) > 20 and all(any("set_style()" in source(c) for c in folded[p.name]) for p in figures)
    for p in notebooks(root):
        assert all(c in folded[p.name] for c in cells(p) if "hide-input" in c["metadata"].get("tags", ())), p.name
