"Histories are those of the estimator, in the unit of the target, and a file filled by several writers loses no line."
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from lgdcnn import LGDCNNRegressor
from lgdcnn.comparison.render import read_lines
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.studies.convergence import learning_history, run_convergence
from lgdcnn.studies.records import RunPlan, append_lines
from lgdcnn.training.device import Machine

NARROW = MODELS["dcnn-k1"].replace(d_model=16, conv_width=16)
TWO = PROTOCOLS["fast"].replace(epochs=2)


@pytest.fixture(scope="module")
def machine():
    return Machine.choose("cpu", "fp32")


def test_the_history_is_the_estimators(embedded, machine):
    model = LGDCNNRegressor(NARROW, TWO, seed=3, verbose=False, device="cpu", precision="fp32")
    model.fit(*embedded.part("train"), validation=embedded.part("val"))
    ours = learning_history(embedded, NARROW, TWO, 3, machine)
    assert list(ours.val_mae) == pytest.approx([line["val_mae"] for line in model.history_[0]], rel=1e-5)
    assert list(ours.loss) == pytest.approx([line["loss"] for line in model.history_[0]], rel=1e-5)


def test_more_seeds_leave_the_old_lines_alone(tmp_path, machine):
    path = tmp_path / "convergence" / "history.csv"
    run_convergence(tmp_path, RunPlan(networks=(NARROW,), epochs=1), machine)
    before = path.read_bytes()
    table = run_convergence(tmp_path, RunPlan(networks=(NARROW,), seeds=(0, 1), epochs=1), machine)
    assert path.read_bytes().startswith(before) and list(table.seed) == [0, 1]
    other = run_convergence(tmp_path, RunPlan(networks=(NARROW,), epochs=2), machine)  # another protocol is another run
    assert other.protocol_digest.nunique() == 2 and len(other) == 4


def test_several_writers_lose_no_line(tmp_path):
    path = tmp_path / "lines.csv"
    append_lines(path, pd.DataFrame({"writer": [-1], "line": [0], "text": ["x" * 90]}))
    def write(k):
        for i in range(20): append_lines(path, pd.DataFrame({"writer": k, "line": range(i, i + 100), "text": "x" * 90}))
    with ThreadPoolExecutor(4) as pool: list(pool.map(write, range(4)))
    table = read_lines(path)
    assert len(table) == 1 + 4 * 20 * 100 and set(table.text) == {"x" * 90}
    assert table.groupby("writer").size().to_dict() == {-1: 1, **dict.fromkeys(range(4), 2000)}


def test_a_file_with_other_columns_is_left_as_it_is(tmp_path):
    path = tmp_path / "lines.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="other columns"): append_lines(path, pd.DataFrame({"a": [1]}))
    assert path.read_text() == "a,b\n1,2\n"
