"What stands beside the short list is true: units, equals that are not listed, the front of equals, a picture that shows the best."
import numpy as np
import pytest
from matplotlib import pyplot as plt

from lgdcnn.screening.aims import read_aim
from lgdcnn.screening.groups import element_list
from lgdcnn.screening.models import Named
from lgdcnn.screening.parts import ScreenQuestion, read_parts
from lgdcnn.screening.report import in_words, notes, plot_screening, short_list, summary
from lgdcnn.screening.run import screen
from lgdcnn.screening.template import Template

GAP, ENTHALPY = Named("gap", "band_gap_mp"), Named("e", "formation_enthalpy_mp")
OXIDES = Template.of("ABO3", {"A": element_list("Ca,Sr,Ba,La"), "B": element_list("Ti,Zr,Sc,Pu")})


def answered(folder, aims, models=(GAP,), top=3, **more):
    question = ScreenQuestion(OXIDES, models, tuple(read_aim(*a) for a in aims), rows=5, **more)
    outcome = screen(question, folder)
    return question, outcome, short_list(question, folder, outcome, top)


def test_equals_that_are_not_listed_are_counted_in_both_passes(tmp_path):
    "All sixteen lie in the window: six go on, three are listed, by number."
    question, outcome, table = answered(tmp_path, [("window", "gap=-1:20")], first=(Named("gap", "band_gap_mp", "bf16"),), keep=6)
    said = notes(question, tmp_path, outcome, table)
    assert table["number"].tolist() == [0, 1, 2] and said[0] == "values: gap (eV)"
    assert said[1].startswith("10 more are as good as the last that went on") and said[2].startswith("3 more are as good as the last on the list")
    assert in_words(question, outcome).splitlines() == ["16 numbers, 16 compositions; asked: band_gap_mp@bf16", "6 numbers, 6 compositions; asked: band_gap_mp"]


def test_where_no_two_are_equal_nothing_is_said_of_them(tmp_path):
    question, outcome, table = answered(tmp_path, [("max", "gap")], models=(GAP, ENTHALPY))
    values = np.concatenate([p["value(gap)"] for p in read_parts(tmp_path, 1, range(outcome.n_parts[0]))])
    assert len(set(values.tolist())) > 10
    assert notes(question, tmp_path, outcome, table)[0] == "values: gap (eV), e (eV/atom)"
    assert not any("as good" in line for line in notes(question, tmp_path, outcome, table))
    assert summary(question, outcome)["units"] == {"gap": "eV", "e": "eV/atom"}


def test_intervals_that_nobody_can_give_and_elements_that_nobody_has_seen(tmp_path):
    question, outcome, table = answered(tmp_path, [("min", "gap")], top=16, coverage=0.9999)
    unseen = int(table["unseen"].sum())
    said = notes(question, tmp_path, outcome, table)
    assert said[-1] == "no intervals of 0.9999 for gap: too few errors were held out"
    assert (f"{unseen} of them hold" in said[-2]) == (unseen > 1)


@pytest.mark.parametrize("aims", [[("max", "gap")], [("window", "gap=1:2")], [("above", "gap=2")], [("inside", "gap=1:2")],
                                  [("max", "gap"), ("min", "e")]])
def test_the_picture_has_units_and_cuts_no_point_off(aims, tmp_path):
    question, outcome, table = answered(tmp_path, aims, models=(GAP, ENTHALPY))
    ax = plot_screening(question, tmp_path, outcome, table)
    said = {"above": "chance of gap above 2 eV", "inside": "chance of gap between 1 and 2 eV"}
    assert ax.get_xlabel() == said.get(aims[0][0], "gap (eV)")
    assert not ax.collections or not ax.collections[-1].get_clip_on()
    assert len(aims) == 1 or ax.get_ylabel() == "e (eV/atom)"
    lines = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [float(line.get_xdata()[0]) for line in lines] == ([1, 2] if aims[0][0] == "window" else [])
    plt.close(ax.figure)


@pytest.mark.parametrize("aim", ["max", "above"])
def test_a_pure_number_has_no_unit(aim, tmp_path):
    question, outcome, table = answered(tmp_path, [(aim, "n=2" if aim == "above" else "n")], models=(Named("n", "refractive_index"), GAP))
    assert notes(question, tmp_path, outcome, table)[0] == "values: gap (eV)" and summary(question, outcome)["units"]["n"] == "1"
    ax = plot_screening(question, tmp_path, outcome, table)
    assert ax.get_xlabel() == ("chance of n above 2" if aim == "above" else "n")
    plt.close(ax.figure)
