"""Packs: everything comes back, damage is noticed, and numpy is all that is needed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lgdcnn
from lgdcnn.composition import featurize
from lgdcnn.config import InputError
from lgdcnn.data.packing import ArraySet, load_pack, write_pack
from lgdcnn.data.splits import Split

FORMULAS = ["NaCl", "NaN", "Fe0.62C0.000953Mn0.379047", "(NH4)2SO4", "Si", "UO2.667", "HfC"]


def a_set(name="toy", formulas=FORMULAS, target=None, parts=None, task="regression"):
    n = len(formulas)
    target = np.linspace(-1, 1, n) if target is None else target
    parts = np.arange(n) % 3 if parts is None else parts
    return ArraySet(
        name, "number", "eV", task, featurize(formulas), target, [Split.from_parts(np.array(parts))] * 2, formulas
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(FORMULAS), st.floats(allow_nan=False), st.integers(0, 3)), min_size=1, max_size=30
    )
)
def test_round_trip(rows):
    import tempfile

    s = a_set(formulas=[r[0] for r in rows], target=np.array([r[1] for r in rows]), parts=[r[2] for r in rows])
    with tempfile.TemporaryDirectory() as folder:
        back = load_pack(write_pack(Path(folder) / "p.npz", [s]))["toy"]
    assert back.compositions == s.compositions and back.formulas == s.formulas
    assert np.array_equal(back.target, s.target) and back.target.dtype == np.float64
    assert [x.parts(len(s)).tolist() for x in back.splits] == [x.parts(len(s)).tolist() for x in s.splits]


def test_classes_stay_integers_and_names_can_be_chosen(tmp_path):
    write_pack(tmp_path / "p.npz", [a_set("a"), a_set("a__b", target=np.arange(7) % 2, task="classification")])
    assert list(load_pack(tmp_path / "p.npz")) == ["a", "a__b"]
    only = load_pack(tmp_path / "p.npz", ["a__b"])
    assert list(only) == ["a__b"] and only["a__b"].target.dtype == np.int64 and only["a__b"].task == "classification"
    with pytest.raises(InputError, match="did you mean 'a__b'"):
        load_pack(tmp_path / "p.npz", ["a_b"])


def test_damage_is_noticed_wherever_it_is(tmp_path):
    whole = write_pack(tmp_path / "p.npz", [a_set(formulas=FORMULAS * 40)]).read_bytes()
    reference = load_pack(tmp_path / "p.npz")["toy"]
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "p.npz").write_bytes(whole[:cut])
        with pytest.raises(InputError, match="damaged"):
            load_pack(tmp_path / "p.npz")
    for at in range(0, len(whole), 37):  # one byte changed: noticed, or without effect on the data
        (tmp_path / "p.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            back = load_pack(tmp_path / "p.npz")["toy"]
        except InputError:
            continue
        assert back.compositions == reference.compositions and np.array_equal(back.target, reference.target)


@pytest.mark.parametrize("content", [b"", b"formula,target\n", b"\x93NUMPY"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(InputError, match="no data pack"):
        load_pack(tmp_path / "p.npz")
    np.savez(tmp_path / "q.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="no data pack"):
        load_pack(tmp_path / "q.npz")


BARE = """
import sys
for name in ("pandas", "sklearn", "pymatgen", "matplotlib", "pyarrow", "scipy", "click"): sys.modules[name] = None
import numpy as np, torch
from lgdcnn.data.packing import load_pack
s = load_pack(sys.argv[1])["toy"]
c, y = s.part("train")
row = torch.arange(len(c)).repeat_interleave(torch.from_numpy(c.n_elements))
column, fraction = torch.from_numpy(c.numbers.astype(np.int64)), torch.from_numpy(c.fractions).float()
x = torch.zeros(len(c), 119).index_put_((row, column), fraction)
y, w = torch.from_numpy(y).float(), torch.zeros(119, requires_grad=True)
for _ in range(500):
    loss = ((x @ w - y) ** 2).mean()
    loss.backward()
    with torch.no_grad(): w -= 0.5 * w.grad
    w.grad = None
print(len(c), float(loss) < 1e-6)
"""


def test_a_pack_trains_where_there_is_only_torch_and_numpy(tmp_path):
    write_pack(tmp_path / "p.npz", [a_set()])
    root = Path(lgdcnn.__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-c", BARE, str(tmp_path / "p.npz")], capture_output=True, text=True, cwd=root
    )
    assert run.stdout.strip() == "3 True", run.stderr


def test_a_turned_bit_is_refused_or_changes_nothing(tmp_path):
    "Names, types and shapes are under the sum of the set, too."
    s, path = a_set(), tmp_path / "p.npz"
    whole, rng, refused = write_pack(path, [s]).read_bytes(), np.random.default_rng(0), 0
    for _ in range(600):
        data, bit = bytearray(whole), int(rng.integers(8 * len(whole)))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            back = load_pack(path)["toy"]
        except InputError:
            refused += 1
            continue
        assert back.compositions == s.compositions and back.formulas == FORMULAS and back.target.tolist() == s.target.tolist()
        assert [p.parts(7).tolist() for p in back.splits] == [p.parts(7).tolist() for p in s.splits] and back.unit == "eV"
    assert refused > 300


def test_packs_of_before_have_no_sum_and_still_load(tmp_path):
    import json

    s = a_set()
    with np.load(write_pack(tmp_path / "p.npz", [s])) as z:
        arrays = dict(z)
    contents = json.loads(arrays.pop("contents").tobytes())
    del contents["sets"][0]["sha256"]
    np.savez(tmp_path / "old.npz", contents=np.frombuffer(json.dumps(contents).encode(), dtype=np.uint8), **arrays)
    assert load_pack(tmp_path / "old.npz")["toy"].compositions == s.compositions


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "p.npz", x=np.zeros(1 << 24), contents=np.zeros(2, dtype=np.uint8))  # 128 MB in 130 kB
    with pytest.raises(InputError, match="would unfold to"):
        load_pack(tmp_path / "p.npz")
