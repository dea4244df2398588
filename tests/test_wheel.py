"What is installed is all that is needed, and nothing else: the wheel is built, and opened."
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

MOST = 8_000_000  # bytes; the model that ships is the largest part
NOT_PACKED = ("tests", "results", "docs", ".ipynb_checkpoints", "__pycache__")


def build_wheel(source: Path, folder: Path) -> Path:
    "Build the wheel of a copy of what it is made from, with setuptools alone: no network, nothing written beside the source."
    copy = folder / "source"
    for name in ("lgdcnn", "nbs/figures"):
        shutil.copytree(source / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"): shutil.copy(source / name, copy)
    (folder / "wheel").mkdir()
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, folder / "wheel"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found, = (folder / "wheel").glob("*.whl")
    return found


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as z: return set(z.namelist())


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    return build_wheel(root, tmp_path_factory.mktemp("wheel"))


def not_packed(source: Path, wheel: Path) -> set[str]:
    "Name the files of the package that did not come into its wheel."
    have = [p.relative_to(source).as_posix() for p in (source / "lgdcnn").rglob("*") if p.is_file()]
    return {n for n in have if "__pycache__" not in n} - names(wheel)


def test_every_chapter_and_all_data_are_in_it(wheel, root):
    packed = {n for n in names(wheel) if n.startswith("lgdcnn/")}
    assert "lgdcnn/data/pretrained.safetensors" in packed and len(packed) > 100
    assert not not_packed(root, wheel) and all((root / n).is_file() for n in packed)
    chapters = {p.name for p in (root / "nbs").glob("[0-9][0-9]_*") if p.is_dir()}
    packages = {n.split("/")[1] for n in packed if n.count("/") == 2 and n.endswith("/__init__.py")}
    assert packages == {c[3:] for c in chapters} - {"ground"}


def test_nothing_strays_into_it(wheel, root):
    beside = {n for n in names(wheel) if not n.startswith("lgdcnn/") and ".dist-info/" not in n}
    figures = {p.name for p in (root / "nbs/figures").glob("*.ipynb")}
    assert {n.split("/", 1)[1] for n in beside} == {f"data/share/lgdcnn/figures/{f}" for f in figures}  # the demo draws them
    assert not [n for n in names(wheel) if set(Path(n).parts) & set(NOT_PACKED) or Path(n).name.startswith("test_")]


def test_it_is_small_and_brings_the_command(wheel):
    assert wheel.stat().st_size < MOST
    with zipfile.ZipFile(wheel) as z:
        entry, = (n for n in z.namelist() if n.endswith("entry_points.txt"))
        assert "lgdcnn = lgdcnn.cli:main" in z.read(entry).decode()
        assert {"LICENSE", "NOTICE"} <= {Path(n).name for n in z.namelist() if "/licenses/" in n}


def test_a_file_that_is_left_out_is_noticed(root, tmp_path):
    "The trap: the data that are packed are those in one folder; a table in a folder below it stays at home, and nothing says so."
    for name in ("lgdcnn/data/more", "nbs/figures"): (tmp_path / "a" / name).mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"): shutil.copy(root / name, tmp_path / "a")
    for name in ("lgdcnn/__init__.py", "lgdcnn/data/a.csv", "lgdcnn/data/more/b.csv"): (tmp_path / "a" / name).write_text('__version__ = "1"\n')
    (tmp_path / "b").mkdir()
    assert not_packed(tmp_path / "a", build_wheel(tmp_path / "a", tmp_path / "b")) == {"lgdcnn/data/more/b.csv"}
