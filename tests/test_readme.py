"What the README tells a new user to type works as it is written."
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from lgdcnn.cli import main

# Fewer epochs and a smaller network, so that it takes seconds; nothing else is changed.
QUICKER = {"train": " --epochs 2 --quiet", "predict": " --quiet", "compare": " --model mean --model trees"}


def shell_lines(readme: str) -> list[str]:
    "Return the commands of the README that start with `lgdcnn`, comments left out."
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("lgdcnn ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, embedded):
    "A folder with the two tables that the README speaks of."
    folder = tmp_path_factory.mktemp("readme")
    rows = embedded.frame.iloc[:160].rename(columns={"target": "band_gap"})
    rows["enthalpy"] = rows["band_gap"]
    rows["temperature"] = np.linspace(200, 900, len(rows)).round()
    rows.iloc[:120].to_csv(folder / "measured.csv", index=False)
    rows.iloc[120:][["formula", "temperature"]].to_csv(folder / "candidates.csv", index=False)
    return folder


def test_the_commands_of_the_readme_work(root, folder, monkeypatch):
    lines = shell_lines((root / "README.md").read_text(encoding="utf-8"))
    assert [line.split()[1] for line in lines][:5] == ["predict", "predict", "train", "predict", "plot"], "an answer, then a model"
    monkeypatch.chdir(folder)
    made = []
    for line in lines:
        if "fetch" in line or "fused" in line: continue  # asks the network; takes a minute, and is run in test_fused
        more = QUICKER.get(line.split()[1], "")
        if "train" in line and "--architecture" not in line: more += " --architecture dcnn-k1"
        if "--architecture trees" in line: more = more.replace(" --epochs 2", "")
        r = CliRunner().invoke(main, shlex.split(line + more)[1:])
        assert r.exit_code == 0, f"{line}\n{r.stderr}"
        out = re.search(r"--out (\S+)", line)
        made += [out[1]] if out else []
        assert r.stdout or out, f"{line} gave nothing"
    assert len(made) >= 3 and all((folder / name).stat().st_size > 100 for name in made)
    assert (folder / "predicted.png").read_bytes()[:4] == b"\x89PNG"
