"Every notebook runs from top to bottom in a fresh shell, costly cells left out."
from pathlib import Path

import pytest
from nbdev.test import test_nb as run_notebook

run_notebook.__test__ = False
NBS = Path(__file__).resolve().parent.parent / "nbs"
# Figure notebooks write files; tests/plots/test_figures.py runs them, into a folder of its own.
NOTEBOOKS = [p for p in sorted(NBS.rglob("*.ipynb")) if not {".ipynb_checkpoints", "figures"} & set(p.parts)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(NBS)))
def test_notebook_runs(path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    passed, _ = run_notebook(path, skip_flags=["slow", "gpu"])
    assert passed
