"The wide table against a slow computation, element by element."
import csv
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.composition import SYMBOLS
from lgdcnn.config import InputError
from lgdcnn.elements import magpie_properties, xenonpy_properties
from lgdcnn.estimators import features
from lgdcnn.estimators.features import FEATURES, magpie_features, wide_features, wide_names

parts = st.dictionaries(st.sampled_from(SYMBOLS[1:]), st.integers(1, 40), min_size=1, max_size=8)
SOURCE_ONLY = {"atomic_number", "atomic_weight", "period", "gs_bandgap", "gs_mag_moment", "gs_volume_per", "gs_est_bcc_latcnt",
               "num_unfilled", "num_valance", *(f"num_{o}_{k}" for o in "spdf" for k in ("unfilled", "valence"))}


def text(p, factor=1):
    return "".join(f"{s}{n * factor}" for s, n in p.items())


def known():
    "Return symbol to value for each of the 63 properties; an unknown value is the mean of the known ones."
    table = {}
    for name, column in {**magpie_properties(), **xenonpy_properties()}.items():
        values = {s: float(v) for s, v in zip(SYMBOLS[1:], column, strict=True) if v == v}
        mean = sum(values.values()) / len(values)
        table[name] = {s: values.get(s, mean) for s in SYMBOLS[1:]}
    return table


KNOWN = known()


def slowly(p):
    "Compute name to value of the columns that Magpie's set does not have."
    total = sum(p.values())
    share = {s: Fraction(n, total) for s, n in p.items()}
    found = {f"fraction {s}": float(share.get(s, 0)) for s in SYMBOLS[1:]}
    chi = KNOWN["Electronegativity"]
    anions = [s for s in p if chi[s] == max(chi[t] for t in p)]
    rest = [s for s in p if s not in anions]
    found["anion fraction"] = float(sum(share[s] for s in anions))
    mean = lambda which, of: sum(float(share[s]) * of[s] for s in which) / float(sum(share[s] for s in which))
    for name, of in KNOWN.items():
        found[f"anion minus rest {name}"] = mean(anions, of) - mean(rest, of) if rest else 0.0
        if name in magpie_properties(): continue
        values, average = [of[s] for s in p], mean(p, of)
        found[f"minimum {name}"], found[f"maximum {name}"] = min(values), max(values)
        found[f"range {name}"], found[f"mean {name}"] = max(values) - min(values), average
        found[f"avg_dev {name}"] = sum(float(share[s]) * abs(of[s] - average) for s in p)
        found[f"mode {name}"] = min(of[s] for s in p if share[s] == max(share.values()))
    return found


@settings(max_examples=40, deadline=None)
@given(parts)
def test_wide_features_are_those_of_a_slow_computation(p):
    ours, slow = dict(zip(wide_names(), wide_features([text(p)])[0], strict=True)), slowly(p)
    assert len(slow) == 572 - 144 and set(slow) == set(wide_names()[144:])
    for name, value in slow.items():
        scale = max(map(abs, KNOWN[name.split()[-1]].values())) if name.split()[-1] in KNOWN else 1
        assert np.isclose(ours[name], value, rtol=1e-5, atol=1e-5 * scale), (name, ours[name], value)


@settings(max_examples=25, deadline=None)
@given(st.lists(parts, min_size=1, max_size=4), st.integers(2, 9))
def test_wide_features_are_of_the_composition(ps, factor):
    "Neither the order of the elements, nor the size of the formula unit, nor the other rows matter."
    x = wide_features([text(p) for p in ps])
    assert x.dtype == np.float32 and np.isfinite(x).all()
    scale = 1e-5 * (1 + np.abs(x))
    assert (np.abs(x - wide_features([text(dict(reversed(p.items())), factor) for p in ps])) <= scale).all()
    assert (np.abs(x - np.concatenate([wide_features([text(p)]) for p in ps])) <= scale).all()
    assert np.array_equal(x[:, :144], magpie_features([text(p) for p in ps]))


def test_names_match_columns_and_are_told_apart():
    assert FEATURES["wide"] is wide_features
    names = wide_names()
    assert wide_features(["Fe"]).shape == (1, 572) == (1, len(names)) and len(set(names)) == 572
    iron = dict(zip(names, wide_features(["Fe"])[0], strict=True))
    assert iron["fraction Fe"] == 1 and iron["anion fraction"] == 1 and iron["mean bulk_modulus"] == np.float32(170)
    assert all(v == 0 for k, v in iron.items() if k.startswith(("anion minus rest", "range")))


def test_equally_electronegative_elements_are_all_anions():
    chi = magpie_properties()["Electronegativity"]
    a, b = next((s, t) for i, s in enumerate(SYMBOLS[1:]) for j, t in enumerate(SYMBOLS[1:]) if i < j and chi[i] == chi[j] > 2)
    share = lambda f: wide_features([f])[0, wide_names().index("anion fraction")]
    assert np.isclose(share(f"Cs2{a}{b}"), 0.5) and np.isclose(share(f"Cs2{a}2"), 0.5)


def test_xenonpy_equals_its_source():
    found = list((Path(sys.prefix) / "share" / "element-sources").rglob("xenonpy_element_features.csv"))
    assert found, "the source is not installed: make install"
    with open(found[0], newline="") as f: header, *rows = csv.reader(f)
    ours = xenonpy_properties()
    assert [r[0] for r in rows] == SYMBOLS[1:95] and set(header[1:]) - set(ours) == SOURCE_ONLY and len(ours) == 41
    for name, column in ours.items():
        source = np.array([float(r[header.index(name)]) for r in rows])
        assert np.allclose(column[:94], source, rtol=1e-6) and np.isnan(column[94:]).all()


def test_what_xenonpy_repeats_magpie_has():
    "Nothing is lost by leaving 16 columns out: they are Magpie's, and the lattice constants are multiples of each other."
    found = next((Path(sys.prefix) / "share" / "element-sources").rglob("xenonpy_element_features.csv"))
    with open(found, newline="") as f: header, *rows = csv.reader(f)
    source = {n: np.array([float(r[i]) for r in rows]) for i, n in enumerate(header) if i}
    magpie = magpie_properties()
    same = {"atomic_number": "Number", "atomic_weight": "AtomicWeight", "period": "Row", "gs_bandgap": "GSbandgap",
            "gs_mag_moment": "GSmagmom", "gs_volume_per": "GSvolume_pa", "num_unfilled": "NUnfilled", "num_valance": "NValence",
            **{f"num_{o}_{k}": f"N{o}{k.capitalize()}" for o in "spdf" for k in ("unfilled", "valence")}}
    assert {*same, "gs_est_bcc_latcnt"} == SOURCE_ONLY
    for ours, theirs in same.items():
        both = ~np.isnan(magpie[theirs][:94])
        assert np.corrcoef(source[ours][both], magpie[theirs][:94][both])[0, 1] > 0.99, ours
    assert np.corrcoef(source["gs_est_bcc_latcnt"], source["gs_est_fcc_latcnt"])[0, 1] > 0.999


def test_rows_at_once_do_not_matter(monkeypatch):
    many = [f"Fe{n}O{m}" for n in range(1, 6) for m in range(1, 5)]
    whole = wide_features(many)
    for rows in (1, 3, 20):
        monkeypatch.setattr(features, "_ROWS", rows)
        assert np.array_equal(wide_features(many), whole)


@pytest.mark.parametrize("formulas", [["Fe", "Xy"], [""], ["Fe0"]])
def test_wide_features_refuse_what_is_no_formula(formulas):
    with pytest.raises(InputError): wide_features(formulas)
