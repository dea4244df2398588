"The shipped element vectors are those of their source."
import csv
import sys
from pathlib import Path

import numpy as np

from lgdcnn.composition import SYMBOLS
from lgdcnn.elements import element_ranks, element_table, magpie_properties


def test_mat2vec_equals_its_source():
    found = list((Path(sys.prefix) / "share" / "element-sources").rglob("mat2vec.csv"))
    assert found, "the source is not installed: make install"
    with open(found[0], newline="") as f: rows = list(csv.reader(f))[1:]
    table = element_table("mat2vec")
    assert [r[0] for r in rows] == SYMBOLS[1:]
    assert np.array_equal(table[1:], np.array([[float(v) for v in r[1:]] for r in rows], dtype=np.float32))


def test_onehot_tells_all_elements_apart():
    assert np.array_equal(element_table("onehot")[1:], np.eye(118))


def test_symbols_are_pymatgens():
    from pymatgen.core import Element
    assert [Element.from_Z(z).symbol for z in range(1, 119)] == SYMBOLS[1:]


def test_magpie_agrees_with_pymatgen():
    "Masses, but for two radioactive elements with another isotope; electronegativities, but for three set by hand."
    from pymatgen.core import Element
    table = {name: dict(zip(SYMBOLS[1:], column, strict=True)) for name, column in magpie_properties().items()}
    for s in SYMBOLS[1:95]:
        if s not in ("Po", "Rn"): assert abs(table["AtomicWeight"][s] / float(Element(s).atomic_mass) - 1) < 0.001, s
        if s in ("Pm", "Tb", "Yb") or np.isnan(table["Electronegativity"][s]): continue
        assert abs(table["Electronegativity"][s] - Element(s).X) <= 0.02, s


def test_elements_rank_by_electronegativity():
    "Ties by atomic number; elements without a value stand behind fluorine, by atomic number."
    chi = magpie_properties()["Electronegativity"]
    rank = element_ranks()
    assert rank[0] == 0 and sorted(rank[1:]) == list(range(1, 119))
    order = [SYMBOLS[z] for z in np.argsort(rank)[1:]]
    assert order[0] == "Fr" and order[97:102] == ["F", "He", "Ne", "Ar", "Rn"] and order[-1] == "Og"
    known = [z for z in np.argsort(rank)[1:] if not np.isnan(chi[z - 1])]
    pairs = [(chi[z - 1], z) for z in known]
    assert pairs == sorted(pairs) and len(known) == 98
    assert rank[SYMBOLS.index("Si")] < rank[SYMBOLS.index("Cu")] and not rank.flags.writeable


def test_magpie_table_is_standardised_and_joined():
    magpie, joined = element_table("magpie")[1:], element_table("mat2vec+magpie")[1:]
    known = ~np.isnan(np.stack(list(magpie_properties().values()), axis=1))
    assert magpie.shape == (118, 22) and (magpie[~known] == 0).all() and (~known).sum() > 100
    for j in range(22):
        assert abs(magpie[known[:, j], j].mean()) < 1e-5 and abs(magpie[known[:, j], j].std() - 1) < 1e-5
    assert np.array_equal(joined[:, 200:], magpie)
    mat2vec = element_table("mat2vec")[1:].astype(np.float64)
    assert np.allclose(joined[:, :200], (mat2vec - mat2vec.mean(0)) / mat2vec.std(0), atol=1e-5)


def test_a_network_can_be_built_on_each_table():
    from lgdcnn.config import MODELS
    from lgdcnn.networks.models import build_model
    for name, width in (("mat2vec", 200), ("onehot", 118), ("magpie", 22), ("mat2vec+magpie", 222)):
        net = build_model(MODELS["lstm"].replace(d_model=8, elements=name))
        assert net.embedder.project.in_features == width
