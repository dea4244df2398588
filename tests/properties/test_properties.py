"""The properties of the benchmarks from one network: the table, no leak, and the model that ships."""
import csv
import hashlib
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from click.testing import CliRunner

from lgdcnn import pretrained
from lgdcnn.cli import main
from lgdcnn.composition import composition_keys, featurize
from lgdcnn.config import InputError
from lgdcnn.data.fetching import fetch, load_cached
from lgdcnn.data.packing import ArraySet
from lgdcnn.data.registry import cards
from lgdcnn.data.splits import Split
from lgdcnn.networks.models import n_parameters
from lgdcnn.properties.multitask import calibration_rows, held_back, leaks, property_rows, training_rows
from lgdcnn.properties.record import alone, forests
from lgdcnn.properties.shipped import UnseenWarning
from lgdcnn.properties.table import named, properties
from lgdcnn.properties.transfer import unshown


def test_every_regression_set_is_one_property_and_turns_back_exactly():
    assert {p.dataset for p in properties().values()} == {c.name for c in cards().values() if c.task == "regression"}
    y = np.array([1.5, 3.0, 700.0])
    for p in properties().values():
        assert np.allclose(p.back(p.forth(y)), y, rtol=1e-12), p.name
        assert p.card.licence and p.card.citation and p.unit


@pytest.mark.parametrize("name, near", [("bandgap", "band_gap"), ("Band_Gap", "band_gap"), ("modulus", "bulk_modulus"),
                                        ("fromation_enthalpy", "formation_enthalpy"), ("", "known are")])
def test_an_unknown_property_names_near_ones(name, near):
    with pytest.raises(InputError, match=near): named([name])


@pytest.fixture
def family():
    def one(formulas, parts):
        return ArraySet("x", "", "", "regression", featurize(formulas), np.arange(len(parts)) + 1.0,
                        [Split.from_parts(np.array(parts))], formulas)
    wanted = [properties()[n] for n in ("formation_enthalpy_oqmd", "hull_distance", "volume_per_atom")]
    sets = {wanted[0].dataset: one(["Fe4O6", "NaCl", "KCl", "TiO2"], [0, 0, 1, 0]),
            wanted[1].dataset: one(["Fe2O3", "ClNa", "MgO", "K2Cl2"], [2, 0, 2, 0]),
            wanted[2].dataset: one(["Fe2O3", "TiO2"], [0, 2])}
    return {n: composition_keys(s.compositions) for n, s in sets.items()}, sets, wanted


def test_no_composition_of_a_test_part_trains_its_family(family):
    keys, sets, wanted = family
    held = held_back(keys, sets, wanted)
    rows = training_rows(keys, sets, wanted, held)
    assert leaks(rows, *family) == []
    known = {p.name: set(rows.keys[~np.isnan(rows.y[:, j])]) for j, p in enumerate(wanted)}
    key = lambda *f: set(composition_keys(list(f)))
    assert known["formation_enthalpy_oqmd"] == key("NaCl", "TiO2")  # not Fe4O6; TiO2 is tested in another family only
    assert known["hull_distance"] == key("NaCl")                    # K2Cl2 calibrates the family
    assert known["volume_per_atom"] == key("Fe2O3")
    assert set(calibration_rows(keys, sets, wanted, held).keys) == key("KCl")


def test_a_test_row_put_in_on_purpose_is_found(family):
    keys, sets, wanted = family
    whole = property_rows(keys, sets, wanted, lambda p, k: np.ones(len(k), bool))
    assert leaks(whole, *family) == [("formation_enthalpy_oqmd", composition_keys(["Fe2O3"])[0])]


FILE = resources.files("lgdcnn").joinpath("data", "pretrained.safetensors")


def record(root, name):
    with open(root / "results" / "pretrained" / name, newline="", encoding="utf-8") as f: return list(csv.DictReader(f))


def test_the_shipped_file_is_what_the_record_says(root):
    (line,) = record(root, "model.csv")
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == line["sha256"]
    assert len(FILE.read_bytes()) == int(line["bytes"]) <= 5_000_000
    assert len(record(root, "history.csv")) == int(line["stopped_after"])
    model = pretrained()
    assert [p.name for p in model.wanted] == [*properties()]
    assert (model.network.config.d_model, n_parameters(model.network)) == (int(line["width"]), int(line["parameters"]))
    for r in record(root, "properties.csv"):
        facts = model.facts[r["property"]]
        assert {k: float(r[k]) for k in facts} == pytest.approx(facts, rel=1e-5)


def test_the_record_is_of_the_networks_and_forests_it_names(root):
    single, forest = alone(root / "results"), forests()
    for r in record(root, "properties.csv"):
        d, mae = r["dataset"], float(r["mae"])
        assert (float(r["mae_alone"]), float(r["mae_forest"])) == pytest.approx((single[d], forest[d]), rel=1e-4)
        assert (float(r["ratio_alone"]), float(r["ratio_forest"])) == pytest.approx((mae / single[d], mae / forest[d]), rel=1e-4)


def test_rows_with_new_pairs_and_without_are_all_rows(root):
    facts = {r["property"]: r for r in record(root, "properties.csv")}
    for r in record(root, "novelty.csv"):
        sides = [(int(r[f"n_{k}"]), float(r[f"mae_{k}"] or 0)) for k in ("known", "new")]
        n, total = sum(k for k, _ in sides), sum(k * mae for k, mae in sides)
        whole = facts[r["property"]]
        assert n <= int(whole["n_test"])
        if n == int(whole["n_test"]): assert total / n == pytest.approx(float(whole["mae"]), rel=1e-4)  # none with a strange element


def test_intervals_cover_and_rounding_costs_little(root):
    for r in record(root, "properties.csv"):
        n, m = int(r["n_test"]), int(r["n_calibration"])
        noise = 3 * np.sqrt(0.09 * (1 / n + 1 / m))  # three standard errors of a share, by test and by calibration rows
        assert abs(float(r["coverage_90"]) - 0.9) < 0.03 + noise, r["property"]
        assert abs(float(r["rounding"])) < 0.01, r["property"]


def test_values_come_in_their_units_with_intervals_around_them():
    model = pretrained()
    values, ends = model.predict(["GaN", "NaCl"]), model.predict_interval(["GaN", "NaCl"], coverage=0.8)
    assert [*values] == [*ends] == [*properties()]
    for name in values: assert ((ends[name][:, 0] <= values[name]) & (values[name] <= ends[name][:, 1])).all(), name
    assert abs(values["volume_per_atom"][0] - 11.4) < 2 and abs(values["formation_energy_mp"][1] + 2.1) < 0.3  # known of both
    assert values["band_gap_mp"][1] > values["band_gap_mp"][0] > 0.5
    wider = model.predict_interval("GaN", "band_gap_mp", 0.95)[0]
    assert wider[0] <= ends["band_gap_mp"][0, 0] and wider[1] >= ends["band_gap_mp"][0, 1]


def test_equal_compositions_get_equal_answers():
    a, b = (pretrained().predict(f, "debye_temperature")[0] for f in ("Fe2O3", "O6Fe4"))
    assert a == b


def test_an_element_that_a_property_has_never_seen_is_told():
    model = pretrained()
    with pytest.warns(UnseenWarning, match="steel_yield_strength: O$"): model.predict("FeO", "steel_yield_strength")
    with pytest.warns(UnseenWarning, match="Og"): model.predict_interval("OgO", "band_gap")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict("Fe2O3", "band_gap")
    assert model.unseen(["OgO", "Fe2O3"], "all")[0] == ("Og",) or "Og" in model.unseen(["OgO"], "all")[0]


def test_too_few_calibration_rows_are_refused_not_stretched():
    with pytest.raises(InputError, match="steel_yield_strength was calibrated on too few rows"):
        pretrained().predict_interval("FeNi", "steel_yield_strength", 0.99)
    with pytest.raises(InputError, match="between 0 and 1"): pretrained().predict_interval("FeNi", "band_gap", 90)


def run(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.stdout, r.stderr


def test_the_command_answers_like_the_package():
    code, out, err = run("predict", "--property", "band_gap", "GaN", "Fe2O3", "--format", "json")
    lines = json.loads(out)
    assert code == 0 and len(lines) == 8 and not err
    values = pretrained().predict(["GaN", "Fe2O3"], "band_gap")
    assert lines[0]["prediction"] == pytest.approx(values[lines[0]["property"]][0])
    assert [line["formula"] for line in lines] == ["GaN"] * 4 + ["Fe2O3"] * 4
    code, out, _ = run("predict", "--property", "all", "LiFePO4", "--format", "csv")
    assert code == 0 and len(out.splitlines()) == 29


def test_the_command_tells_what_is_strange():
    code, _, err = run("predict", "--property", "bandgap", "GaN")
    assert code == 2 and "did you mean band_gap" in err
    code, out, err = run("predict", "--property", "steel_yield_strength", "FeO")
    assert code == 0 and err.count("never seen") == 1 and out.splitlines()[1].endswith("O")
    code, out, err = run("predict", "--property", "all", "--coverage", "0.99", "FeNi", "--format", "csv")
    assert code == 0 and "steel_yield_strength" in err and "no intervals" in err and out.count(",,,") >= 1
    for args, why in ((("predict",), "Missing argument"), (("predict", "--property", "band_gap"), "give formulas"),
                      (("predict", "--property", "band_gap", "--raw-std", "GaN"), "leave it out"),
                      (("predict", "--property", "band_gap", "--coverage", "2", "GaN"), "between 0 and 1"),
                      (("predict", "--property", "band_gap", "Xx2"), "Xx2")):
        code, _, err = run(*args)
        assert code == 2 and why in err, (args, err)


def test_a_table_gets_columns(tmp_path):
    (tmp_path / "t.csv").write_text("formula,note\nGaN,1\nOgO,2\n")
    code, _, err = run("predict", "--property", "debye_temperature", "--csv", tmp_path / "t.csv", "--out", tmp_path / "o.csv")
    with open(tmp_path / "o.csv", newline="") as f: rows = list(csv.DictReader(f))
    assert code == 0, err
    assert float(rows[0]["prediction(debye_temperature)"]) == pytest.approx(
        pretrained().predict("GaN", "debye_temperature")[0], rel=1e-5)
    assert [r["unseen"] for r in rows] == ["", "debye_temperature: Og"] and "never seen" in err


def test_the_list_of_properties_has_units_sources_and_errors():
    code, out, _ = run("properties", "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert code == 0 and len(rows) == 28
    assert all(float(r["mae"]) > 0 and r["unit"] and r["source"] and r["licence"] and r["citation"] for r in rows)
    code, text, _ = run("properties")
    units = {line.split()[0]: line.split()[1] for line in text.splitlines()}
    assert code == 0 and units["refractive_index"] == "none" and units["phonon_peak"] == "1/cm"
    _, text, _ = run("predict", "--property", "refractive_index", "GaN")
    assert text.splitlines()[1].split()[-1] == "none"
    assert json.loads(run("predict", "--property", "refractive_index", "GaN", "--format", "json")[1])[0]["unit"] == "1"


def test_the_first_answer_needs_only_torch():
    code = """
import sys, lgdcnn
lgdcnn.pretrained().predict(["GaN"])
print({"pandas", "sklearn", "pymatgen", "scipy", "matplotlib", "pyarrow"} & set(sys.modules))"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


@pytest.mark.data
@pytest.mark.slow
def test_no_test_row_of_the_benchmarks_trains(benchmarks_cached):
    sets, wanted = benchmarks_cached, list(properties().values())
    keys = {n: composition_keys(s.compositions) for n, s in sets.items()}
    held = held_back(keys, sets, wanted)
    rows = training_rows(keys, sets, wanted, held)
    assert leaks(rows, keys, sets, wanted) == []
    assert [int(n) for n in (~np.isnan(rows.y)).sum(0)] == [pretrained().facts[p.name]["n_train"] for p in wanted]
    test = sets["mp_e_hull"].compositions[sets["mp_e_hull"].splits[0].test[:1]]
    y = np.full((1, len(wanted)), np.nan)
    y[0, [p.name for p in wanted].index("formation_enthalpy_oqmd")] = 1.0
    put_in = replace(rows, keys=np.append(rows.keys, composition_keys(test)), y=np.concatenate([rows.y, y]))
    assert leaks(put_in, keys, sets, wanted) == [("formation_enthalpy_oqmd", composition_keys(test)[0])]
    # what a fusion with transfer may learn from: rows of no composition that any elastic property was trained with
    data, kin = sets["mp_bulk_modulus"], [j for j, p in enumerate(wanted) if p.family == "elasticity"]
    elastic = set(rows.keys[(~np.isnan(rows.y[:, kin])).any(1)])
    expected = [i for i in data.splits[0].val if keys["mp_bulk_modulus"][i] not in elastic]
    assert unshown(data, 0, sets.get).tolist() == expected and 0 < len(expected) < len(data.splits[0].val)


@pytest.fixture(scope="module")
def benchmarks_cached():
    names = [p.dataset for p in properties().values()]
    fetch(names)
    return {n: load_cached(n) for n in names}
