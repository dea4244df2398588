"""Candidates are numbered: none twice, none forgotten, and a range of numbers is a range of the whole."""
import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.composition import SYMBOLS, composition_keys, featurize
from lgdcnn.config import InputError
from lgdcnn.screening.filters import composition_hashes, smact_charges
from lgdcnn.screening.groups import GROUPS, element_list
from lgdcnn.screening.space import Enumeration, amount_table, combination
from lgdcnn.screening.template import Template, read_pattern

ELEMENTS = st.sets(st.integers(1, 103), min_size=3, max_size=6).map(lambda s: tuple(sorted(s)))
PATTERNS = st.sampled_from([("ABX3", ""), ("A1-xA'xBO3", "0:1:0.25"), ("A2BB'X6", ""), ("A1-xBxX", "0,0.5,1"), ("AA'A''X2", "")])


@st.composite
def spaces(draw):
    "Make small spaces of both kinds."
    if draw(st.booleans()):
        pool = draw(ELEMENTS)
        always = tuple(draw(st.sets(st.sampled_from(pool), max_size=1)))
        sizes = tuple(sorted(draw(st.sets(st.integers(1, 3), min_size=1))))
        return Enumeration(pool, sizes, draw(st.integers(1, 3)), draw(st.sampled_from([None, 5])), always)
    pattern, steps = draw(PATTERNS)
    lists = {name: draw(st.lists(st.integers(3, 12), min_size=1, max_size=3, unique=True)) for name in read_pattern(pattern)}
    return Template.of(pattern, lists, steps)


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_ranges_are_the_whole_once_and_pack_as_their_formulas_do(space, data):
    whole = space.block(np.arange(space.size))
    cuts = sorted(data.draw(st.lists(st.integers(0, space.size), max_size=4)))
    parts = [space.block(np.arange(a, b)) for a, b in itertools.pairwise([0, *cuts, space.size])]
    for name in ("numbers", "z", "amounts"):
        assert np.array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
    keys = composition_keys(whole.compositions())
    assert len(set(keys)) == len(keys)
    if len(whole): assert whole.compositions() == featurize(whole.formulas())
    shuffled = data.draw(st.permutations(range(space.size)))[:20]
    assert space.block(np.array(shuffled, dtype=int)).formulas() == [f for n in shuffled for f in space.block([n]).formulas()]


@settings(max_examples=40, deadline=None)
@given(spaces())
def test_no_composition_of_a_template_is_forgotten(space):
    if isinstance(space, Enumeration): return
    wanted = set()
    for amounts in space.amounts:
        for elements in itertools.product(*space.sites):
            there = [(z, a) for z, a in zip(elements, amounts, strict=True) if a]
            if len({z for z, _ in there}) == len(there): wanted.add(frozenset(there))
    assert {frozenset((z, a) for z, a in zip(zs, amounts, strict=True) if a)
            for zs, amounts in zip(*(b.tolist() for b in (space.block(np.arange(space.size)).z,
                                                          space.block(np.arange(space.size)).amounts)), strict=True)} == wanted


def mobius(n: int) -> int:
    found, k = 1, 2
    while n > 1:
        if n % k == 0:
            n, found = n // k, -found
            if n % k == 0: return 0
        k += 1
    return found


@pytest.mark.parametrize("k, largest", [(1, 1), (1, 7), (2, 1), (2, 12), (3, 6), (4, 5), (5, 4)])
def test_amounts_are_as_many_as_moebius_says(k, largest):
    assert len(amount_table(k, largest)) == sum(mobius(d) * (largest // d) ** k for d in range(1, largest + 1))


def test_counts_of_sets_and_perovskites():
    pool = element_list("-radioactive")
    assert Enumeration(pool, (2, 3), 1).size == math.comb(len(pool), 2) + math.comb(len(pool), 3)
    a, b = element_list("alkaline,lanthanides"), element_list("3d,4d")
    space = Template.of("A1-xA'xBO3", {"A": a, "A'": a, "B": b}, "0.25,0.5")
    n = len(space.block(np.arange(space.size)))
    assert n == (len(a) * (len(a) - 1) + math.comb(len(a), 2)) * len(b)


def test_a_large_set_is_found_from_its_number():
    m, k = 94, 6
    last = combination(np.array([0, math.comb(m, k) - 1]), m, k)
    assert last.tolist() == [list(range(k)), list(range(m - k, m))]


@pytest.mark.parametrize("make, said", [
    (lambda: Enumeration((1, 8), (5,)), "sizes"), (lambda: Enumeration((1, 8), (1,), always=(1, 8)), "sizes"),
    (lambda: Enumeration((1, 8), (2,), 0), "largest"), (lambda: Enumeration(tuple(range(1, 104)), (40,), 1), "too many to number"),
    (lambda: Template.of("A", {"A": []}), "no elements"), (lambda: Template.of("", {}), "cannot read"),
    (lambda: Template.of("AxBO3", {"A": [1], "B": [2]}, "a"), "steps"),
    (lambda: Template.of("ABCDEFGH", dict.fromkeys("ABCDEFGH", [1])).size, "sites are too many"),
    (lambda: Template.of("ABO3", {"A": [1], "B": [2]}).block([-1]), "no candidate -1"),
])
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(InputError, match=said): make()


def test_hashes_tell_compositions_apart_and_only_them():
    rng = np.random.default_rng(0)
    space = Enumeration(element_list("-radioactive"), (3,), 6)
    block = space.block(np.unique(rng.integers(0, space.size, 20_000)))
    assert len(np.unique(composition_hashes(block.compositions()))) == len(block)
    same = composition_hashes(featurize(["Fe2O3", "O1.5Fe", "Fe0.4O0.6", "Fe4O6"]))
    assert len(set(same.tolist())) == 1


def test_charges_are_those_of_smact():
    screening = pytest.importorskip("smact.screening")
    charges, rng = smact_charges(), np.random.default_rng(2)
    for k, n in ((1, 20), (2, 200), (3, 200), (4, 60), (5, 30)):
        space = Enumeration(tuple(range(1, 104)), (k,), 5)
        block = space.block(rng.integers(0, space.size, n))
        assert charges.neutral(block).tolist() == [screening.smact_validity(f) for f in block.formulas()]


def test_rare_is_rare_by_smacts_table():
    element = pytest.importorskip("smact").Element
    out = {*GROUPS["noble"].split(), *GROUPS["radioactive"].split()}
    rare = {s for s in SYMBOLS[1:104] if s not in out and (a := element(s).crustal_abundance) and a < 0.1}
    assert rare == set(GROUPS["rare"].split()) - {"Ru"}  # for which it has no value


def test_without_smact_the_extra_is_named(monkeypatch):
    import sys
    for name in [m for m in sys.modules if m.split(".")[0] == "smact"]: monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "smact", None)
    with pytest.raises(InputError, match=r"lgdcnn\[screening\]"): smact_charges.__wrapped__()




def test_a_question_goes_out_without_what_is_made_of_it():
    "It is sent with each task, perhaps a million times."
    space = Enumeration(element_list("Li,Na,K,Ca,Ti,O,F"), (2, 3, 4), 9)
    fresh = len(pickle.dumps(Enumeration(space.pool, space.sizes, 9)))
    block = space.block(np.arange(1000))  # makes tables
    sent = pickle.dumps(space)
    assert len(sent) == fresh < 300
    back = pickle.loads(sent)
    assert (back, hash(back), back.size) == (space, hash(space), space.size)
    assert back.block(np.arange(1000)).formulas() == block.formulas()
