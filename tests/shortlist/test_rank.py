"A shortlist keeps bounds, the domain and distances; what it cannot do it says in a line."
import io

import pandas as pd
import pytest
from conftest import run

from lgdcnn import InputError
from lgdcnn.shortlist.rank import bounded, chance, is_neutral, rank

TABLE = """formula,prediction,std,lower,upper,outside
NaCl,5,1,3,7,False
Na2Cl2,5,1,3,7,False
NaCl2,6,1,4,8,False
CaO,4,0.1,3.8,4.2,False
XeF2,9,1,7,11,True
LiF,-1,2,-5,3,False
"""


@pytest.fixture
def predicted(tmp_path):
    (tmp_path / "p.csv").write_text(TABLE)
    return tmp_path / "p.csv"


@pytest.mark.parametrize("args, first", [((), ["NaCl2", "NaCl", "CaO"]), (("--neutral",), ["NaCl", "CaO", "LiF"]), (("--outside",), ["XeF2", "NaCl2", "NaCl"]),
                                         (("--lowest",), ["LiF", "CaO", "NaCl"]), (("--by", "chance", "--above", 3.5, "--below", 4.5), ["CaO", "NaCl", "NaCl2"])])
def test_the_command_ranks_as_it_is_told(args, first, predicted):
    code, out, err = run("rank", predicted, "--n", 3, "--format", "csv", *args)
    assert code == 0 and pd.read_csv(io.StringIO(out))["formula"].tolist() == first, err


def test_no_interval_ends_below_a_physical_bound(predicted):
    code, out, _ = run("rank", predicted, "--min", 0, "--format", "csv")
    found = pd.read_csv(io.StringIO(out))
    assert code == 0 and (found[["prediction", "lower", "upper"]] >= 0).all().all() and found["formula"].iloc[-1] == "LiF"
    assert bounded(pd.DataFrame({"prediction": [1.0]}), log=True)["prediction"][0] == 10


def test_no_composition_stands_twice():
    table = pd.read_csv(io.StringIO(TABLE))
    assert rank(table, apart=0)["formula"].tolist().count("Na2Cl2") == 0 and len(rank(table, apart=1000)) == 1
    assert rank(table.set_index(pd.Index(list("abcdef"))), 1).index.tolist() == ["c"]


def test_limits_of_logarithms_are_given_as_values():
    table = pd.DataFrame({"formula": ["NaCl", "CaO"], "prediction": [2.0, 3.0], "std": [0.1, 0.1]})
    found = rank(table, by="chance", above=500, log=True, apart=0)
    assert found["formula"].tolist() == ["CaO", "NaCl"] and found["prediction"].tolist() == [1000, 100]
    assert found["chance"].iloc[0] == pytest.approx(chance(table["prediction"].to_numpy()[1:], table["std"].to_numpy()[1:], 2.69897000433)[0])


def test_messages(predicted, tmp_path):
    (tmp_path / "bare.csv").write_text("formula,prediction\nNaCl,1\nCaO,2\n")
    assert "predict with --check model" in run("rank", tmp_path / "bare.csv")[2]
    assert "only 2 of 2 candidates are left" in run("rank", tmp_path / "bare.csv")[2]
    assert run("rank", tmp_path / "bare.csv", "--by", "bound")[0] == 2
    assert "needs the column 'lower': predict with intervals" in run("rank", tmp_path / "bare.csv", "--by", "bound")[2]
    assert "a chance needs a limit" in run("rank", predicted, "--by", "chance")[2]
    (tmp_path / "out.csv").write_text("formula,prediction,outside\nXeF2,1,True\n")
    assert "no candidate is left" in run("rank", tmp_path / "out.csv")[2]
    with pytest.raises(InputError, match="no column 'prediction'"): rank(pd.DataFrame({"formula": ["NaCl"]}))
    assert not is_neutral("NaCl2") and is_neutral("Fe3O4")


def test_a_model_ranks_as_the_two_commands_do(fitted, embedded, tmp_path):
    path, asked = fitted.save(tmp_path / "m.lgdcnn"), embedded.part("test")[0][:60]
    (tmp_path / "c.csv").write_text("\n".join(["formula", *asked]))
    assert run("predict", path, "--csv", tmp_path / "c.csv", "--check", "model", "--out", tmp_path / "p.csv", "--quiet")[0] == 0
    for options, words in (({"lowest": True}, ("--lowest",)), ({"by": "chance", "above": -1}, ("--by", "chance", "--above", -1))):
        found = fitted.rank(pd.Series(asked, index=range(100, 160)), 5, **options)
        code, out, err = run("rank", tmp_path / "p.csv", "--n", 5, "--format", "csv", *words)
        told = pd.read_csv(io.StringIO(out))
        assert code == 0 and found["formula"].tolist() == told["formula"].tolist() and found.index.min() >= 100, err
        for name in ("prediction", "lower", "upper", "distance"): assert found[name].to_numpy() == pytest.approx(told[name].to_numpy(), rel=1e-4)
    with pytest.raises(InputError, match="by = 'x' is not possible"): fitted.rank(asked, by="x")


def test_several_targets_have_no_order(root):
    from lgdcnn import load_model
    with pytest.raises(InputError, match="several targets has no order"):
        load_model(root / "tests" / "files" / "format2-targets.safetensors").rank(["NaCl"])


def test_what_a_bound_cuts_keeps_its_order():
    table = pd.DataFrame({"formula": ["NaCl", "CaO", "Fe"], "prediction": [1.0, 2, 3], "std": 1.0, "lower": [-3.0, -2, -1], "upper": 9.0})
    found = rank(table, by="bound", minimum=0, apart=0)
    assert found["formula"].tolist() == ["Fe", "CaO", "NaCl"] and (found["lower"] == 0).all()


def test_how_many_are_left_out_is_told(predicted, tmp_path):
    _, _, err = run("rank", predicted, "--n", 1)
    assert err == "note: left out of 6 candidates: 1 outside of the domain\n"
    assert run("rank", predicted, "--n", 1, "--outside")[2] == ""
    table = pd.read_csv(predicted).assign(distance=[0, 0, 1, 1, 0, 1])  # what was trained on and lies outside counts once
    table.to_csv(tmp_path / "near.csv", index=False)
    _, out, err = run("rank", tmp_path / "near.csv", "--n", 1, "--new", "--format", "csv")
    assert err == "note: left out of 6 candidates: 1 outside of the domain and 2 that the model was trained on\n" and "NaCl2" in out
