"""Your own table as a Dataset: what is wrong is said in one line; what is right stays as it was."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lgdcnn
from lgdcnn.composition import FormulaError, composition_keys
from lgdcnn.config import InputError
from lgdcnn.data.datasets import Dataset, list_datasets, load_dataset, without_unary
from lgdcnn.data.packing import load_pack, write_pack

FORMULAS = ["NaCl", "KCl", "MgO", "CaO", "NaN", "Si", "Fe2O3", "LiF", "BN", "GaAs"]


def table(**columns):
    return pd.DataFrame({"formula": FORMULAS, "target": np.arange(10.0)} | columns)


def test_names():
    assert len(list_datasets()) == 32 and list_datasets() == sorted(list_datasets())
    assert lgdcnn.list_datasets() == list_datasets()


def test_the_embedded_split_never_changes():
    s = load_dataset("exp_formation_enthalpy").splits[0]
    assert [len(s.train), len(s.val), len(s.test)] == [1494, 214, 427]
    assert [int(a.sum()) for a in (s.train, s.val, s.test)] == [1595130, 220431, 462484]


def test_each_load_is_the_callers_own():
    a, b = load_dataset("exp_formation_enthalpy"), load_dataset("exp_formation_enthalpy")
    a.frame.loc[:, "target"] = 0.0
    assert b.frame.target.abs().sum() > 0 and load_dataset("exp_formation_enthalpy").frame.equals(b.frame)


def test_unknown_name_and_no_download(monkeypatch, tmp_path):
    monkeypatch.setenv("LGDCNN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="did you mean 'mp_e_hull'"):
        load_dataset("mp_e_hul")
    with pytest.raises(InputError, match="lgdcnn datasets fetch mp_e_hull"):
        load_dataset("mp_e_hull", download=False)
    assert not (tmp_path / "cache").exists()  # a refusal leaves nothing behind


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_and_frames_give_the_same(tmp_path, suffix):
    path = tmp_path / f"mine.{suffix}"
    table().to_csv(path, index=False) if suffix == "csv" else table().to_parquet(path)
    ds, same = Dataset.from_frame(path, unit="eV"), Dataset.from_frame(table(), name="mine", unit="eV")
    assert (ds.name, ds.unit, ds.property, ds.task) == ("mine", "eV", "target", "regression")
    assert ds.frame.equals(same.frame) and list(ds.frame.formula) == FORMULAS
    assert np.array_equal(ds.splits[0].test, same.splits[0].test)


def test_formulas_that_look_like_missing_values_survive_a_csv(tmp_path):
    (tmp_path / "m.csv").write_text("formula,target\nNaN,1\nNa,2\nNO,3\nIn,4\nINF,5\nNi,-1e3\n")
    assert list(Dataset.from_frame(tmp_path / "m.csv").frame.formula) == ["NaN", "Na", "NO", "In", "INF", "Ni"]


def test_a_byte_order_mark_and_other_columns_do_no_harm(tmp_path):
    table(note="x, y").to_csv(tmp_path / "m.csv", index=False, encoding="utf-8-sig")
    assert len(Dataset.from_frame(tmp_path / "m.csv")) == 10


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "is empty"),
        ("formula,target\n", "has no rows"),
        ("a;b\n1;2\n", "no column 'formula': it has 'a', 'b'"),
        ("formula\nNaCl\n", "no column 'target'"),
        ("formula,target\nNaCl,\nKCl,1\n", "no target in 1 of 2 rows, first in row 0"),
        ("formula,target\nNaCl,NaN\n", "no target in 1 of 1"),
        ("formula,target\nNaCl,about 3\n", "like 'about 3'"),
        ("formula,target\nNaCl,inf\nKCl,2\n", "infinite target in row 0"),
        ("formula,target\n,1\n", "row 0.*the formula is empty"),
        ("formula,target\nNaCl,1\nKCl,2\n", "too few to split"),
        ("formula,target\nNaCl,1\nXy2,2\n", "row 1: .*'Xy2'"),
        ("formula,target\nNaCl,1,2\nKCl,2\nMgO,1,2,3\n", "cannot be read as a table"),
        (b"formula,target\nNaCl\xff,1\n", "cannot be read"),
        (b"\x00\x01\x02", "zero bytes"),
        ("formula,target\nNaCl,1e400\nKCl,1\n", "infinite"),
    ],
)
def test_bad_csv_is_refused_in_one_line(tmp_path, content, words):
    (tmp_path / "m.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=words) as e:
        Dataset.from_frame(tmp_path / "m.csv")
    assert "\n" not in str(e.value)


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"PAR1 not really")
    for path, words in (
        (tmp_path / "m.parquet", "cannot be read"),
        (tmp_path / "none.csv", "there is no file"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(InputError, match=words):
            Dataset.from_frame(path)


@pytest.mark.parametrize("formula", [None, np.nan, 3.5, b"NaCl"])
def test_formulas_that_are_no_text(formula):
    with pytest.raises(FormulaError, match="row 4"):
        Dataset.from_frame(table(formula=[*FORMULAS[:4], formula, *FORMULAS[5:]]))


def test_a_table_that_is_no_table():
    for thing in (None, 3, [("NaCl", 1.0)], {"formula": ["NaCl"]}):
        with pytest.raises(InputError, match="DataFrame, or the path"):
            Dataset.from_frame(thing)


def test_a_column_named_twice():
    frame = table()
    frame.insert(2, "again", 1.0)
    frame.columns = ["formula", "target", "target"]
    with pytest.raises(InputError, match="more than one column 'target'"):
        Dataset.from_frame(frame)


@pytest.mark.parametrize(
    "target, task, kind",
    [
        (np.arange(10), "regression", np.floating),
        (pd.array(range(10), dtype="Int64"), "regression", np.floating),
        (np.arange(10) > 4, "classification", np.integer),
        (pd.array([True] * 5 + [False] * 5, dtype="boolean"), "classification", np.integer),
    ],
)
def test_the_type_of_the_target_makes_the_task(target, task, kind):
    ds = Dataset.from_frame(table(target=target))
    assert ds.task == task and np.issubdtype(ds.frame.target.dtype, kind)


def test_numbers_written_as_text_are_numbers_and_dates_are_not():
    ds = Dataset.from_frame(table(target=[f"{x}.5" for x in range(10)]))
    assert ds.task == "regression" and ds.frame.target.tolist() == [x + 0.5 for x in range(10)]
    with pytest.raises(InputError, match="no numbers, like '2020"):
        Dataset.from_frame(table(target=pd.date_range("2020-01-01", periods=10)))


def test_classes_may_be_numbers_or_words_when_said_so():
    assert Dataset.from_frame(table(target=np.arange(10) % 2), task="classification").task == "classification"
    ds = Dataset.from_frame(table(target=list("aabbaabbab")), task="classification")
    assert sorted(set(ds.frame.target)) == ["a", "b"]
    with pytest.raises(InputError, match="unknown task"):
        Dataset.from_frame(table(), task="ranking")


rows = st.lists(
    st.tuples(
        st.sampled_from(["NaCl", "ClNa", "Na2Cl2", "MgO", "OMg", "KCl", "CaO", "Si", "BN"]), st.integers(-5, 5)
    ),
    min_size=8,
    max_size=40,
).filter(lambda r: len(set(composition_keys([x[0] for x in r]))) >= 4)


@settings(max_examples=50, deadline=None)
@given(rows)
def test_duplicates_are_reported_and_merged_only_on_request(data):
    frame = pd.DataFrame(data, columns=["formula", "target"])
    key = composition_keys(frame.formula)
    repeats = len(key) - len(set(key))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ds = Dataset.from_frame(frame)
    assert len(ds) == len(frame) and int((ds.duplicates()["rows"] - 1).sum()) == repeats
    assert [f"{repeats} of {len(key)} rows" in str(w.message) for w in said] == ([True] if repeats else [])
    merged = Dataset.from_frame(frame, duplicates="merge")
    means = frame.target.groupby(key).mean()
    assert len(merged) == len(set(key)) and not len(merged.duplicates())
    assert np.allclose(merged.frame.target, means[composition_keys(merged.frame.formula)])


def test_an_index_of_any_kind_is_ignored():
    odd = table().set_index(pd.Index([7] * 10))
    assert Dataset.from_frame(odd).frame.equals(Dataset.from_frame(table()).frame)


def test_wrong_words():
    with pytest.raises(InputError, match="treatment of duplicates"):
        Dataset.from_frame(table(), duplicates="drop")
    with pytest.raises(InputError, match="add to less than 1"):
        Dataset.from_frame(table(), fractions=(0.5, 0.6))


def test_without_unary_thins_the_test_part_only():
    ds = load_dataset("exp_formation_enthalpy")
    own = Dataset.from_frame(
        table(formula=["Si", "Fe", "NaCl", "KCl", "Ge", "BN", "LiF", "MgO", "CaO", "Cu"]), seed=1
    )
    thin = without_unary(own)
    several = own.compositions().n_elements > 1
    assert np.array_equal(thin.splits[0].test, own.splits[0].test[several[own.splits[0].test]])
    assert np.array_equal(thin.splits[0].train, own.splits[0].train) and len(thin.frame) == 10
    assert len(without_unary(ds).splits[0].test) == 427  # this set has no pure elements


def test_a_set_of_ones_own_goes_into_a_pack(tmp_path):
    ds = Dataset.from_frame(table(), name="mine")
    back = load_pack(write_pack(tmp_path / "p.npz", [ds.to_arrays()]))["mine"]
    assert back.formulas == FORMULAS and back.compositions == ds.compositions()
    for part in ("train", "val", "test"):
        assert np.array_equal(back.part(part)[1], ds.part(part)[1])
