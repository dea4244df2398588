"""Draw figure notebooks, each in a process of its own that begins with everything imported.

papermill starts two processes for a figure, and importing takes them five times as long as drawing. Here a process that has
imported and nothing more is copied for each notebook, so that none sees what another has set.
"""
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path


def run(path: Path, results: str, output: str) -> tuple[list[str], list[str]]:  # the lines printed; faults of the picture
    "Run the cells of a figure notebook with its parameters set, in the notebook's folder."
    import matplotlib.pyplot as plt
    from bad_pictures import faults
    names, said = {"__name__": "__main__"}, io.StringIO()
    os.chdir(path.parent)
    with contextlib.redirect_stdout(said):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "code": continue
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()): names |= {"results": results, "output": output}
    return said.getvalue().splitlines(), [fault for n in plt.get_fignums() for fault in faults(plt.figure(n))]


def drawn(path: Path, results: str, output: str) -> list:  # None, or why it failed; the lines printed; faults
    "Run a notebook in a copy of this process."
    read, write = os.pipe()
    if os.fork() == 0:
        try: answer = [None, *run(path, results, output)]
        except BaseException as e: answer = [f"{type(e).__name__}: {e}", [], []]
        os.write(write, json.dumps(answer).encode())  # a few lines: the pipe has room for them
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe: answer = pipe.read()
    os.wait()
    return json.loads(answer or b'["the process died", [], []]')


class Drawing:
    "Stands in for `figures._run`: the same parameters, the same answer; keeps what is wrong with each picture."
    faults: dict[str, list[str]] = {}  # by figure

    def __enter__(self):
        env = os.environ | {"MPLBACKEND": "agg"}
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        return self

    def __exit__(self, *_): self.process.communicate()

    def __call__(self, figure, results: Path, output: Path) -> tuple[str | None, list[str]]:
        print(json.dumps([str(figure.path), str(results), str(output)]), file=self.process.stdin, flush=True)
        failure, says, self.faults[figure.name] = json.loads(self.process.stdout.readline())
        return failure, says


if __name__ == "__main__":
    import matplotlib.pyplot  # noqa: F401
    import scipy.stats  # noqa: F401
    import seaborn  # noqa: F401
    import torch  # noqa: F401

    import lgdcnn.cecv
    import lgdcnn.plots.table  # noqa: F401
    for line in sys.stdin:
        path, *folders = json.loads(line)
        print(json.dumps(drawn(Path(path), *folders)), flush=True)
