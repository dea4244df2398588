"A model file says what it holds; a prediction is shared out exactly, or asked without each element."
import json

import pytest
from conftest import run

from lgdcnn import InputError
from lgdcnn.shortlist.show import explain, model_facts


def test_the_file_says_what_the_model_knows(fitted, tmp_path):
    path = fitted.save(tmp_path / "m.lgdcnn")
    code, out, _ = run("show", path, "--format", "json")
    said = json.loads(out)
    assert code == 0 and said == model_facts(path) and said["rows trained on"] == str(fitted.n_train_)
    assert said["validation MAE"] == f"{fitted.metrics_['mae']:.4g}" and said["elements"].startswith(f"{len(fitted.elements_)}: ")
    assert said["rows held out"] == str(len(fitted.scores_)) and "rows trained on" in run("show", path)[1]


@pytest.mark.parametrize("name", ["format1.safetensors", "format2-regressor.safetensors", "format2-classifier.safetensors", "format2-targets.safetensors",
                                  "format3-extra.safetensors", "format4-fused-regressor.safetensors"])
def test_files_of_older_versions_are_shown(name, root):
    assert "written by" in model_facts(root / "tests" / "files" / name)


def test_contributions_add_up(fitted, tmp_path):
    path = fitted.save(tmp_path / "m.lgdcnn")
    table = explain(fitted, "Fe2O3")
    assert table["contribution"].sum() + fitted.target_mean_ == pytest.approx(table.attrs["prediction"], abs=1e-4)
    code, out, err = run("explain", path, "Fe2O3")
    assert code == 0 and "contribution" in out and "Fe2O3: " in err and "90 % interval" in err and "add up to the rest" in err
    assert run("explain", path, "Fe2Ox")[0] == 2


def test_what_cannot_be_explained_is_refused(root):
    from lgdcnn import load_model
    for name in ("format2-classifier.safetensors", "format3-extra.safetensors"):
        with pytest.raises(InputError): explain(load_model(root / "tests" / "files" / name), "NaCl")
