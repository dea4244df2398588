"The shipped element vectors are those of their source."
import csv
import sys
from pathlib import Path

import numpy as np

from lgdcnn.composition import SYMBOLS
from lgdcnn.elements import element_table


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
