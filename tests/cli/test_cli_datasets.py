"""The datasets commands: tables to standard output, notes to standard error, mistakes in one line."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from lgdcnn.cli.datasets import datasets, text_histogram
from lgdcnn.config import InputError
from lgdcnn.data.packing import load_pack


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("LGDCNN_CACHE", str(tmp_path / "cache"))
    return lambda *words: CliRunner().invoke(datasets, words)


def test_list_in_three_formats(run):
    records = json.loads(run("list", "--format", "json").stdout)
    table = list(csv.DictReader(io.StringIO(run("list", "--format", "csv").stdout)))
    text = run("list").stdout.splitlines()
    unit_of = {line.split()[0]: line.split()[4] for line in text[1:]}
    assert unit_of["matbench_dielectric"] == "none" and unit_of["matbench_phonons"] == "1/cm"
    assert {r["unit"] for r in records if r["name"] == "matbench_dielectric"} == {"1"}
    assert len(records) == len(table) == 32 and len(text) == 33
    assert [str(r["rows"]) for r in records] == [r["rows"] for r in table]
    assert {"name", "rows", "unit", "elements", "licence", "cached"} <= set(records[0])
    assert all(line.startswith(r["name"]) for line, r in zip(text[1:], records, strict=True))


def test_show_without_the_data_says_what_is_known(run):
    result = run("show", "matbench_steels")
    assert "yield strength" in result.stdout and "312" in result.stdout
    assert "lgdcnn datasets fetch matbench_steels" in result.stderr and "#" not in result.stdout


def test_show_draws_every_row(run):
    lines = run("show", "exp_formation_enthalpy").stdout.split("(eV/atom)\n")[-1].splitlines()
    assert sum(int(line.split()[-1].replace(",", "")) for line in lines) == 2135


def test_a_pure_number_has_no_unit(run, monkeypatch):
    "'1' and '(1)' puzzle readers."
    from dataclasses import replace

    from lgdcnn.data import datasets
    embedded = datasets.load_dataset("exp_formation_enthalpy")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **more: replace(embedded, unit="1"))
    monkeypatch.setattr("lgdcnn.data.fetching.is_cached", lambda name: True)
    said = run("show", "matbench_dielectric").stdout
    assert f"\n{embedded.property}\n" in said and "(1)" not in said
    assert not [line for line in said.splitlines() if line.split()[:1] == ["unit"]]


@pytest.mark.parametrize(
    "words, message",
    [
        (("fetch",), "say --all"),
        (("fetch", "--all", "mp_e_hull"), "not both"),
        (("fetch", "mp_e_hul"), "did you mean 'mp_e_hull'"),
        (("fetch", "exp_formation_enthalpy"), "unknown data set"),
        (("show", "steels"), "did you mean 'matbench_steels'"),
        (("pack", "--out", "x.npz"), "say --all"),
        (("pack", "exp_formation_enthalpy", "--out", "nowhere/x.npz"), "no folder 'nowhere'"),
        (("fetch", "mp_e_hull", "--wheel", "none.whl"), "there is no wheel at none.whl"),
    ],
)
def test_mistakes_are_input_errors(run, words, message):
    result = run(*words)
    assert (
        isinstance(result.exception, InputError)
        and message in str(result.exception)
        and "\n" not in str(result.exception)
    )


def test_pack_writes_what_load_pack_reads(run, tmp_path):
    result = run("pack", "exp_formation_enthalpy", "--out", str(tmp_path / "p.npz"))
    assert result.exit_code == 0 and "1 data sets" in result.stdout
    assert len(load_pack(tmp_path / "p.npz")["exp_formation_enthalpy"]) == 2135


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [0, 1] * 5, list(range(1000)) + [1e30], [-1e300, 1e300]])
def test_histogram_counts_every_value(values):
    lines = text_histogram(np.array(values, dtype=float)).splitlines()
    assert sum(int(line.split()[-1].replace(",", "")) for line in lines) == len(values)
