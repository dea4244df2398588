"""The cards of the 31 benchmarks: complete, consistent, and named as the literature names them."""

import re
from urllib.parse import unquote

import pytest

from lgdcnn.config import InputError
from lgdcnn.data.registry import card, cards

MATBENCH = """steels jdft2d phonons expt_gap dielectric log_gvrh log_kvrh perovskites mp_gap mp_e_form
              expt_is_metal glass mp_is_metal""".split()


def test_names_are_the_official_ones():
    names = set(cards())
    assert {f"matbench_{n}" for n in MATBENCH} == {n for n in names if n.startswith("matbench_")}
    fixed = names - {f"matbench_{n}" for n in MATBENCH}
    counts = {p: sum(n.startswith(p) for n in fixed) for p in ("aflow__", "OQMD_", "CritExam__", "mp_")}
    assert counts == {"aflow__": 7, "OQMD_": 4, "CritExam__": 2, "mp_": 5} and len(fixed) == 18


@pytest.mark.parametrize("c", cards().values(), ids=list(cards()))
def test_card_is_complete(c):
    assert c.property and c.symbol and c.unit and c.licence and c.about.endswith(".")
    assert "doi 10." in c.citation
    assert c.task in ("regression", "classification") and (c.unit == "class") == (c.task == "classification")
    assert [f.part for f in c.files] == (["all"] if c.protocol == "matbench" else ["train", "val", "test"])
    assert sum(f.rows for f in c.files) == c.rows
    assert 0 < c.max_elements <= c.elements <= 118


def test_files_are_named_to_the_byte():
    files = [f for c in cards().values() for f in c.files]
    assert len(files) == len({f.sha256 for f in files}) == len({f.member for f in files}) == 67
    assert all(re.fullmatch("[0-9a-f]{64}", f.sha256) and f.bytes > 0 for f in files)
    commit = "457b4d4835737ecbe4dd33e53174bd818bd82143"
    assert all(unquote(f.url).endswith(f"/CrabNet/{commit}/data/{f.member}") for f in files)


def test_known_traps():
    assert card("matbench_perovskites").files[0].member == "matbench/castelli.csv"
    assert card("matbench_steels").files[0].member == "matbench/steels_yield.csv"
    assert card("matbench_log_kvrh").files[0].member == "matbench/elasticity_log10(K_VRH).csv"
    assert card("matbench_steels").max_elements == 13


def test_unknown_name_and_read_only():
    with pytest.raises(InputError, match="did you mean 'aflow__Egap'"):
        card("aflow_Egap")
    with pytest.raises(TypeError):
        cards()["mine"] = 1
