"""What `make lab` adds to JupyterLab: reading and running the notebooks leaves the clone as it is.

A notebook is saved as `nbdev-clean` leaves it: without execution counts, the version of Python, the kernel's other names.
A cell that was only run keeps the outputs it was stored with; one whose code was changed is stored with what it shows now;
`make lab OUTPUTS=save` stores them all. What is on the screen stays there in any case.
"""
import json
import os
from pathlib import Path

from nbdev.clean import clean_nb
from nbdev.config import get_config


def code_of(cell: dict) -> str:
    return "".join(cell["source"])


def put_back(nb: dict, stored: dict) -> None:
    "Give cells whose code is as stored the outputs they were stored with."
    kept = {cell["id"]: cell for cell in stored["cells"] if cell["cell_type"] == "code" and "id" in cell}
    for cell in nb["cells"]:
        old = kept.get(cell.get("id"))
        if cell["cell_type"] == "code" and old and code_of(old) == code_of(cell):
            cell["outputs"] = old["outputs"]


def keep_clean(model: dict, path: str, contents_manager, **kwargs) -> None:
    "Clean a notebook before it is saved."
    if model["type"] != "notebook" or model["content"]["nbformat"] != 4:
        return
    file = Path(contents_manager.root_dir) / path.strip("/")
    clean_nb(model["content"], allowed_cell_metadata_keys=get_config(path=file.parent).allowed_cell_metadata_keys)
    if file.is_file() and os.environ.get("OUTPUTS") != "save":
        put_back(model["content"], json.loads(file.read_text(encoding="utf-8")))


c.FileContentsManager.pre_save_hook = keep_clean  # noqa: F821  (Jupyter brings c)
