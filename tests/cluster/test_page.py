"What the page on clusters tells people to type is possible: every option exists, and the array makes every part once."
import json
import os
import re
import shlex
import subprocess
import sys

import click
import pytest

from lgdcnn.cli import main
from lgdcnn.cluster.slurm import read_options
from lgdcnn.screening.command import read_parts_range, read_source

RECORD = f'#!{sys.executable}\nimport json, os, sys\nopen(os.environ["SAID"], "a").write(json.dumps(sys.argv[1:]) + chr(10))\n'


@pytest.fixture(scope="module")
def scripts(root):
    "The page's blocks of shell."
    cells = json.loads((root / "nbs/tutorials/on_a_cluster.ipynb").read_text(encoding="utf-8"))["cells"]
    return [b for c in cells if c["cell_type"] == "markdown" for b in re.findall(r"```sh\n(.*?)```", "".join(c["source"]), re.S)]


def commands(script, program):
    lines = re.sub(r"\\\n", " ", script).splitlines()
    return [shlex.split(line.split(program, 1)[1].rstrip("& "), comments=True) for line in lines if f"{program} " in line and line[0] != "#"]


def unknown(words, command):
    "Options among words that a command of click does not have."
    while isinstance(command, click.Group): command, words = command.get_command(click.Context(command), words[0]), words[1:]
    known = {o for p in command.params for o in p.opts}
    return [w for w in words if w.startswith("--") and w.split("=")[0] not in known]


def test_every_option_of_our_commands_exists(scripts):
    found = [words for s in scripts for words in commands(s, "lgdcnn")]
    assert {tuple(w[:2]) for w in found} >= {("benchmark", "run"), ("screen", "/shared/perovskites")} and len(found) >= 4
    assert [unknown(words, main) for words in found] == [[]] * len(found)
    assert unknown(["screen", "x", "--sheduler", "a"], main) == ["--sheduler"]
    assert read_options(tuple(w for words in found for k, w in zip(words, words[1:], strict=False) if k == "--slurm"))


def test_every_option_of_dask_exists(scripts):
    worker = pytest.importorskip("distributed.cli.dask_worker", reason="pip install lgdcnn[cluster]").main
    found = [words for s in scripts for words in commands(s, "dask worker")]
    assert found and [unknown(words, worker) for words in found] == [[]] * len(found)


@pytest.mark.skipif(os.name != "posix", reason="a script of bash")
def test_the_array_makes_every_part_once(scripts, tmp_path, monkeypatch):
    [script] = [s for s in scripts if "#SBATCH" in s]
    first, last = map(int, re.search(r"--array=(\d+)-(\d+)", script).groups())
    (tmp_path / "lgdcnn").write_text(RECORD)
    (tmp_path / "lgdcnn").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    for k in (first, 1, last): subprocess.run(["bash", "-c", script], env=os.environ | {"SLURM_ARRAY_TASK_ID": str(k)}, check=True)
    said = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    value = lambda words, name: [v for k, v in zip(words, words[1:], strict=False) if k == name]
    a, b, c = (read_parts_range(*value(words, "--parts")) for words in said)
    source = read_source(*value(said[0], "--pattern"), value(said[0], "--site"), *value(said[0], "--x"), None, "", 0, None, None, None, None)
    assert a.start == 0 and a.stop == b.start and c.start < -(-source.size // 65_536) <= c.stop
    assert unknown(said[0], main.get_command(click.Context(main), "screen")) == []
