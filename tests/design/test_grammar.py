"""Every word is one network, every network of the grammar has one name, and what is drawn keeps to its budget."""
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.composition import featurize
from lgdcnn.config import InputError, ModelConfig
from lgdcnn.design.grammar import LETTERS, REFERENCES, Design, Space, draw_designs, places_of, stages_of
from lgdcnn.design.looks import ROLES, layer_of
from lgdcnn.design.stored import DesignPlan
from lgdcnn.networks.layers import CompositionTensors
from lgdcnn.networks.models import build_model, n_parameters

WORDS = st.text(st.sampled_from(list(LETTERS)), min_size=1, max_size=5).filter(lambda w: "aa" not in w)


@st.composite
def designs(draw):
    "Make any design of the grammar, within a budget or not."
    word = draw(WORDS)
    convolved = (draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 3))) if "c" in word else (3, 3)
    add = tuple(sorted(draw(st.sets(st.integers(0, len(word) - 1), max_size=2))))
    return Design(word, draw(st.sampled_from([8, 12, 32])), *convolved, add)


@settings(max_examples=60, deadline=None)
@given(designs())
def test_a_name_is_the_whole_design(design):
    assert Design.from_name(design.name) == design
    config = ModelConfig.from_dict(json.loads(json.dumps(design.config.to_dict())))
    assert config == design.config and config.digest() == design.config.digest()
    assert config.name == design.name and len(config.stages) == len(design.word)


@settings(max_examples=60, deadline=None)
@given(designs(), designs())
def test_two_designs_are_two_networks(a, b):
    "Neither name nor digest stands for two designs."
    assert (a == b) == (a.name == b.name) == (a.config.digest() == b.config.digest())


@settings(max_examples=25, deadline=None)
@given(designs())
def test_every_design_is_a_network_that_predicts(design):
    network = build_model(design.config)
    packed = CompositionTensors(featurize(["NaCl", "CaTiO3"])).pack(torch.arange(2))
    with torch.no_grad(): answer = network.eval()(packed)[0]
    assert answer.shape == (2, 1) and torch.isfinite(answer).all()
    assert {layer_of(design, r) for r in ROLES} <= set(network.layer_names)
    assert places_of(design.word)[0] == "input" and len(places_of(design.word)) == len(design.word) + 1


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10 ** 6), st.sampled_from([(30_000, 300_000), (20_000, 60_000)]))
def test_what_is_drawn_is_within_the_budget_and_none_twice(seed, budget):
    space, but = Space(budget=budget), list(REFERENCES.values())
    drawn = draw_designs(4, seed, space, but)
    assert len({d.config.digest() for d in [*drawn, *but]}) == len({d.name for d in [*drawn, *but]}) == 4 + len(but)
    for d in drawn:
        assert budget[0] <= n_parameters(build_model(d.config)) <= budget[1]
        assert len(d.word) in space.depths and d.width in space.widths and set(d.word) <= set(LETTERS)
    assert draw_designs(4, seed, space, but) == drawn  # the same seed, the same list
    assert draw_designs(3, seed, space, but) == drawn[:3]


def test_other_seeds_draw_others(): assert set(draw_designs(5, 1)) != set(draw_designs(5, 2))


def test_the_study_asks_for_what_was_promised():
    "Sixty designs, six sets and three seeds, beside the references; each run once, and no reference drawn again."
    plan = DesignPlan()
    names = [d.name for d in plan.drawn]
    assert len(set(names)) == 60 and not set(names) & {d.name for d in REFERENCES.values()}
    assert len({(s, d.name, n) for s, d, n in plan.cells()}) == 63 * 6 * 3 == 1134
    assert set("".join(d.word for d in plan.drawn)) == set(LETTERS)  # each kind of stage occurs
    assert {d.kernel for d in plan.drawn if "c" in d.word} == {1, 3, 5} and any(d.add for d in plan.drawn)


@pytest.mark.parametrize("word, stages", [("a", ("attention",)), ("lala", ("lstm:1", "attention", "lstm:2", "attention")),
                                          ("csm", ("dcnn", "self-attention", "message"))])
def test_stages_that_stand_twice_are_kept_apart_but_for_attention(word, stages): assert stages_of(word) == stages


@pytest.mark.parametrize("name, why", [("", "names no design"), ("lagac", "names no design"), ("x-64", "no word"), ("laa-64", "no a follows"),
                                       ("c-64", "did you mean 'c-64-k3u3'"), ("c-64-k2u1", "kernel"), ("l-30", "multiple of 4"),
                                       ("lg-64+2", "cannot be added"), ("lg-64+10", "cannot be added"), ("l-064", "did you mean 'l-64'")])
def test_what_is_no_name_is_refused(name, why):
    with pytest.raises(InputError, match=why): Design.from_name(name)
