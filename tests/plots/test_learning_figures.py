"Figures 26 to 28 say what the numbers say, one way or the other, and show what has not been run. All numbers here are made up."
import json

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("agg")
from test_results import ROW  # noqa: E402

from lgdcnn.benchmark.plan import ABLATIONS, MAIN  # noqa: E402
from lgdcnn.benchmark.results import RunRow  # noqa: E402
from lgdcnn.benchmark.store import ResultStore  # noqa: E402
from lgdcnn.cecv import THRESHOLDS  # noqa: E402
from lgdcnn.plots.ablation import VARIANTS  # noqa: E402
from lgdcnn.plots.figures import list_figures  # noqa: E402
from lgdcnn.studies.records import append_lines  # noqa: E402

MACHINE = {"device": "cpu", "threads": 1, "precision": "bf16", "finished": "2026-11-22T20:15:00+00:00"}


@pytest.fixture
def drawn(tmp_path, capsys):
    "A function that runs the cells of a figure notebook and returns what was said and all names."
    import matplotlib.pyplot as plt

    def draw(name):
        names = {}
        for cell in json.loads(list_figures()[name].path.read_text())["cells"]:
            if cell["cell_type"] != "code": continue
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", ()): names |= {"results": tmp_path, "output": tmp_path / "out"}
        assert {p.suffix for p in (tmp_path / "out").glob(f"{name}.*")} == {".csv", ".pdf", ".png"}
        return capsys.readouterr().out, names
    yield draw
    plt.close("all")


def history(folder, **ends):  # model to (last error, seconds of an epoch)
    epochs = np.arange(1, 11)
    for model, (last, seconds) in ends.items():
        table = pd.DataFrame({
            "dataset": "exp_formation_enthalpy", "model": model, "protocol": "fast", "protocol_digest": "a", "seed": 0,
            "epoch": epochs, "val_mae": last * 10 / epochs, "seconds": seconds, "cpu_seconds": np.where(epochs > 1, seconds / 2, np.nan), "unit": "eV/atom",
            "epochs": 10, "n_train": 9, "n_val": 3})
        append_lines(folder / "convergence" / "history.csv", table.assign(**MACHINE))


@pytest.mark.parametrize("ours, says", [
    ((0.1, 1.0), ["after 5 s", "lowest from epoch 1 on: holds", "others: holds"]),
    ((0.1, 3.0), ["after 15 s", "lowest from epoch 1 on: holds", "others: does not hold"]),
    ((0.3, 1.0), ["does not reach that", "not the lowest in the end: does not hold", "others: does not hold"])])
def test_convergence(drawn, tmp_path, ours, says):
    history(tmp_path, **{"l-g-dcnn": ours, "crabnet-style": (0.2, 1.0), "roost-style": (0.2, 1.0)})
    out, _ = drawn("fig26_convergence")
    assert all(words in out for words in says), out
    assert "worked 50% of the time" in out


def sizes(folder, runs, n=341_608):  # training rows to (error, share of clusters)
    for rows, (mae, value) in runs.items():
        key = {"dataset": "OQMD_Bandgap", "model": "l-g-dcnn", "model_digest": "a", "protocol": "brief", "protocol_digest": "b",
               "seed": 0, "split_seed": 0, "test_share": 0.1, "fraction": rows / n, "n_train": rows}
        line = key | {"unit": "eV", "n_pool": n, "n_test": 34_161, "mae": mae, "standard_error": 0.001} | MACHINE
        append_lines(folder / "sample_efficiency" / "scores.csv", pd.DataFrame([line]))
        counts = pd.DataFrame({"threshold": THRESHOLDS, "count": 100 * value, "n_compounds": 100, "value": value,
                               "element": "Si", **key, "finished": MACHINE["finished"]})
        append_lines(folder / "sample_efficiency" / "cecv.csv", counts)


@pytest.mark.parametrize("runs, falls, more", [
    ({1709: (0.2, 0.1), 3417: (0.15, 0.2)}, "holds (2 of 8", "fewest: holds"),
    ({1709: (0.2, 0.2), 3417: (0.199, 0.1)}, "cannot be said yet: the errors of the rows were not kept (2 of 8", "fewest: does not hold"),
    ({1709: (0.2, 0.2)}, "cannot be said yet (1 of 8", "fewest: cannot be said yet")])
def test_sample_efficiency(drawn, tmp_path, runs, falls, more):
    sizes(tmp_path, runs)
    out, names = drawn("fig27_sample_efficiency")
    assert f"lowers the error: {falls}" in out and more in out
    assert sorted(names["missing"].values()) == [s for s in names["sizes"].values() if s not in runs]  # each has its dotted line
    assert "not run" in "".join(t.get_text() for t in names["left"].texts)


def bench(folder, models, dataset="mp_bulk_modulus", **more):  # model to error
    for model, mae in models.items():
        values = {"test": {"mae": mae, "rmse": 15.0, "r2": 0.5}, "test_without_pure": {"mae": mae}}
        ResultStore(folder / "benchmark").write(RunRow(**ROW | {"dataset": dataset, "model": model} | values | more))


@pytest.mark.parametrize("models, says", [
    ({MAIN: 10.0} | dict.fromkeys(ABLATIONS, 11.0), "the claim holds\n"),
    ({MAIN: 10.0} | dict.fromkeys(ABLATIONS[:4], 11.0), "holds for these; of the others nothing"),
    ({MAIN: 10.0, "lstm": 9.0, "gru": 11.0, "dcnn": 11.0}, "the claim does not hold\n"),
    ({MAIN: 10.0, "lstm": 9.0}, "it cannot be said yet"), ({"lstm": 9.0}, "it cannot be said yet")])
def test_ablation(drawn, tmp_path, models, says):
    bench(tmp_path, models)
    out, names = drawn("fig28_ablation")
    assert says in out
    compared = len(models) - 1 if len(models) > 3 else 0
    assert len(names["table"]) == compared
    assert sum(t.get_text() == " not run" for t in names["ax"].texts) == len(VARIANTS) - compared


def test_runs_by_another_protocol_are_no_ablation(drawn, tmp_path):
    bench(tmp_path, {MAIN: 10.0})
    bench(tmp_path, dict.fromkeys(ABLATIONS, 9.0), protocol="brief")
    assert "it cannot be said yet" in drawn("fig28_ablation")[0]
