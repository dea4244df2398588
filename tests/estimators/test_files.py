"A model file answers as it did when it was written, or not at all; and costs no more memory than it is large."
import json
import math
import resource
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from lgdcnn import InputError, LGDCNNClassifier, LGDCNNRegressor, load_model
from lgdcnn.cli import main
from lgdcnn.config import MODELS
from lgdcnn.estimators.files import read_model
from lgdcnn.networks.models import build_model

TINY = MODELS["l-g-dcnn"].replace(d_model=4, conv_width=4, n_units=1, resolution=100)
FORMULAS = ["NaCl", "KCl", "MgO", "CaO", "Fe2O3", "Al2O3", "SiO2", "TiO2", "LiF", "NaF", "ZnS", "GaAs"]
Y = np.linspace(-1, 2, 12)


def make(kind):
    kw = dict(architecture=TINY, epochs=1, device="cpu", verbose=False)
    X = pd.DataFrame({"formula": FORMULAS, "t": Y})
    if kind == "regressor": return LGDCNNRegressor(n_models=2, **kw).fit(FORMULAS, Y, validation=0.3)
    if kind == "targets": return LGDCNNRegressor(**kw).fit(FORMULAS, np.stack([Y, Y[::-1]], 1), validation=0.3)
    if kind == "columns": return LGDCNNRegressor(extra=("t",), **kw).fit(X, Y, validation=0.3)
    return LGDCNNClassifier(**kw).fit(FORMULAS, Y > 0, validation=0.3)


KINDS = ("regressor", "targets", "columns", "classifier")


def answer(m):
    "All that a model can be asked, as bytes."
    asked = pd.DataFrame({"formula": FORMULAS[:3], "t": [0.0, 1.0, 2.0]}) if m.extra_.names else FORMULAS[:3]
    if isinstance(m, LGDCNNClassifier): parts = [m.predict_proba(asked)]
    else: parts = [*m.predict(asked, return_std=True), m.predict_interval(asked, 0.5)]
    return b"".join(np.asarray(p).tobytes() for p in parts), m.target_, m.n_train_, m.fingerprint_, m.elements_


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "One file of each kind, what it answers, and its bytes."
    folder, found = tmp_path_factory.mktemp("models"), {}
    for kind in KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = make(kind).save(folder / f"{kind}.lgdcnn")
        found[kind] = path.read_bytes(), answer(load_model(path, "cpu"))
    return found


# --- files of today and of before

def test_new_files_carry_a_sum_and_say_nothing(saved, tmp_path):
    (tmp_path / "m").write_bytes(saved["regressor"][0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(tmp_path / "m")
    facts = read_model(tmp_path / "m")[0]
    assert facts["format"] == 3 and len(facts["sha256"]) == 64


def test_the_same_model_gives_the_same_bytes(saved, tmp_path):
    (tmp_path / "m").write_bytes(saved["classifier"][0])
    assert load_model(tmp_path / "m").save(tmp_path / "n").read_bytes() == saved["classifier"][0]


OLD = ["format2-regressor", "format2-targets", "format2-classifier", "format2-classes", "format3-extra"]


@pytest.mark.parametrize("name", OLD)
def test_files_without_a_sum_load_with_a_note_and_answer_as_ever(name, root):
    "Written by this version before files had sums, with the numbers it gave then."
    folder = root / "tests" / "files"
    told = json.loads((folder / "expected.json").read_text())
    with pytest.warns(UserWarning, match="has no check sum, so damage would not show") as notes:
        m = load_model(folder / f"{name}.safetensors", "cpu")
    assert len(notes) == 1 and "\n" not in str(notes[0].message)
    asked = told["formulas"] if name != "format3-extra" else pd.DataFrame({"formula": told["formulas"], "temperature": told["temperature"]})
    expected = told[name]
    if "proba" in expected:
        assert m.predict(asked).tolist() == expected["prediction"]
        return np.testing.assert_allclose(m.predict_proba(asked), expected["proba"], atol=1e-6)
    mean, std = m.predict(asked, return_std=True, raw_std=True)
    np.testing.assert_allclose(mean, expected["prediction"], atol=1e-6)
    np.testing.assert_allclose(std, expected["std"], atol=1e-6)
    if "interval" in expected:
        np.testing.assert_allclose(m.predict_interval(asked, 0.3 if "targets" in name else 0.5), expected["interval"], atol=1e-5)


def test_the_command_shows_the_note_as_one_line(root):
    shown = CliRunner().invoke(main, ["predict", str(root / "tests" / "files" / "format2-regressor.safetensors"), "NaCl"])
    notes = [line for line in shown.stderr.splitlines() if "check sum" in line]
    assert shown.exit_code == 0 and len(notes) == 1 and notes[0].startswith("note: ")


def test_saved_again_an_old_file_has_a_sum(root, tmp_path):
    with pytest.warns(UserWarning): m = load_model(root / "tests" / "files" / "format1.safetensors", "cpu")
    assert "sha256" in read_model(m.save(tmp_path / "m"))[0]


# --- damage

def swapped(data, rng):
    "Exchange the bytes of two tensors of one size: every number is a fine weight, in the wrong place."
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    places = [tuple(v["data_offsets"]) for k, v in header.items() if k != "__metadata__"]
    same = [(a, b) for a in places for b in places if a < b and a[1] - a[0] == b[1] - b[0] > 0]
    a, b = same[rng.integers(len(same))]
    new = bytearray(data)
    for (x, y), (u, v) in ((a, b), (b, a)): new[8 + length + x:8 + length + y] = data[8 + length + u:8 + length + v]
    return bytes(new)


def renamed(data, rng):
    "Exchange the names of two tensors of one shape in the header."
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    names = [k for k in header if k != "__metadata__"]
    same = [(a, b) for a in names for b in names if a < b and header[a]["shape"] == header[b]["shape"]]
    a, b = same[rng.integers(len(same))]
    header[a], header[b] = header[b], header[a]
    return with_header(data, header)


def with_header(data, header):
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length:]


EDITS = (("target_mean", 7.5), ("target_std", 2.0), ("n_train", 1), ("seed", 99), ("format", 2), ("format", 1), ("n_models", 1),
         ("sha256", "0" * 64), ("sha256", None), ("sha256", "f" * 63), ("elements", [1]), ("target", {"name": "x", "unit": "y"}))


def edited(data, rng):
    "Change one fact, and leave the rest as it was; None removes it."
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    facts = json.loads(header["__metadata__"]["lgdcnn"])
    name, value = EDITS[rng.integers(len(EDITS))]
    facts[name] = value
    if value is None: del facts[name]
    header["__metadata__"]["lgdcnn"] = json.dumps(facts)
    return with_header(data, header)


def flipped(data, rng, n=1):
    new = bytearray(data)
    for place in rng.integers(8 * len(data), size=n): new[place // 8] ^= 1 << place % 8
    return bytes(new)


MUTATIONS = {
    "one bit": flipped, "a few bits": lambda d, rng: flipped(d, rng, int(rng.integers(2, 9))),
    "a bit of the header": lambda d, rng: flipped(d[:8 + int.from_bytes(d[:8], "little")], rng) + d[8 + int.from_bytes(d[:8], "little"):],
    "cut": lambda d, rng: d[:rng.integers(len(d))], "longer": lambda d, rng: d + rng.bytes(int(rng.integers(1, 50))),
    "zeros": lambda d, rng: d[:(i := int(rng.integers(len(d) - 64)))] + bytes(64) + d[i + 64:],
    "tensors swapped": swapped, "names swapped": renamed, "a fact edited": edited,
}


def load_quietly(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model(path, "cpu")


def mutants(saved, n, seed):
    rng, names = np.random.default_rng(seed), list(MUTATIONS)
    for i in range(n):
        kind, how = KINDS[i % len(KINDS)], names[i // len(KINDS) % len(names)]
        data, expected = saved[kind]
        yield kind, how, MUTATIONS[how](data, rng), data, expected


def test_500_mutated_files_are_refused_or_answer_identically(saved, tmp_path):
    refused, same, path = 0, 0, tmp_path / "m"
    for kind, how, data, original, expected in mutants(saved, 500, seed=19):
        path.write_bytes(data)
        try: m = load_quietly(path)
        except InputError as e:
            assert "\n" not in str(e) and len(str(e)) < 600
            refused += data != original
        else:
            assert answer(m) == expected, (kind, how)
            same += 1
    assert refused + same >= 499 and refused > 480, "a file that no mutation changed answers, too"


def test_each_of_many_single_bits_is_noticed(saved, tmp_path):
    rng, data = np.random.default_rng(80), saved["regressor"][0]
    for _ in range(80):
        (tmp_path / "m").write_bytes(flipped(data, rng))
        with pytest.raises(InputError): load_model(tmp_path / "m")


# --- what no accident does: files made by hand, with facts that fit each other

def handmade(path, config, facts=None, scores=None, weights=lambda name, t: t):
    state = {f"0.{k}": weights(k, t).contiguous() for k, t in build_model(config).state_dict().items()}
    facts = {"format": 2, "kind": "regressor", "n_models": 1, "model": config.to_dict(), "train": {}, "target_mean": 0.0, "target_std": 1.0,
             "target": {"name": "", "unit": ""}, "n_train": 1, "seed": 0, "history": [[]], **(facts or {})}
    save_file({**state, "scores": torch.zeros(0) if scores is None else scores}, path, {"lgdcnn": json.dumps(facts)})
    return path


BY_HAND = {
    "negative score": (dict(scores=torch.tensor([0.5, -0.1])), "calibration scores"),
    "score that is none": (dict(scores=torch.tensor([0.5, math.nan])), "calibration scores"),
    "scores of two targets": (dict(scores=torch.ones(3, 2)), "calibration scores"),
    "base zero": (dict(facts={"model": {**TINY.to_dict(), "fraction_base": 0.0}}), "fraction_base = 0.0"),
    "base NaN": (dict(facts={"model": {**TINY.to_dict(), "fraction_base": math.nan}}), "fraction_base = nan"),
    "base infinite": (dict(facts={"model": {**TINY.to_dict(), "fraction_base": math.inf}}), "fraction_base = inf"),
    "base below one": (dict(facts={"model": {**TINY.to_dict(), "fraction_base": 1e-300}}), "fraction_base = 1e-300"),
    "finite weights, infinite answers": (dict(weights=lambda k, t: t * 1e30), "no finite prediction"),
    "sigma beyond all numbers": (dict(weights=lambda k, t: torch.tensor([0.0, 1e4, 0.0]) if k == "head.linear.bias" else t), "no finite prediction"),
    "doubled width of numbers": (dict(weights=lambda k, t: t.double()), "has the type torch.float64"),
    "halved width of numbers": (dict(weights=lambda k, t: t.half()), "has the type F16"),
    "wide spread": (dict(facts={"target_std": 1e300}), "target_std = 1e+300"),
    "too few classes": (dict(facts={"kind": "classifier", "classes": ["a"]}), "1 classes"),
    "units beyond the tensors": (dict(facts={"model": {**TINY.to_dict(), "n_units": 900}}), "n_units = 900"),
    "members beyond the tensors": (dict(facts={"n_models": 20}), "missing or too many"),
    "a sum of another form": (dict(facts={"sha256": "ABC"}), "0 check sums"),
    "no sum": (dict(facts={"format": 3}), "check sum is missing"),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_what_cannot_be_is_refused_by_name(case, tmp_path):
    changes, words = BY_HAND[case]
    path = handmade(tmp_path / "m", TINY, **changes)
    with pytest.raises(InputError) as e: load_quietly(path)
    assert words in str(e.value) and "\n" not in str(e.value) and len(str(e.value)) < 600


def test_by_hand_and_possible_is_fine(tmp_path):
    assert np.isfinite(load_quietly(handmade(tmp_path / "m", TINY)).predict(["NaCl"])).all()


@pytest.mark.parametrize("change, words", [
    ({"resolution": 1_000_000, "d_model": 256, "conv_width": 4}, "resolution = 1000000 is not possible"),
    ({"d_model": 65_536}, "has the shape"), ({"stages": [f"dcnn:{k}" for k in range(99)], "n_units": 1000}, "n_units = 1000"),
])
def test_memory_is_bounded_by_the_header(change, words, tmp_path):
    "Each of these asks for gigabytes: refused at once, in a process that may have a gigabyte."
    base = TINY.replace(**{k: v for k, v in change.items() if k in ("d_model", "conv_width") and v < 1000})
    path = handmade(tmp_path / "m", base, {"model": {**base.to_dict(), **change}})
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=words): load_quietly(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert time.perf_counter() - start < 5


def test_many_members_with_large_tables_are_refused(tmp_path):
    config = TINY.replace(resolution=1_000_000)  # two million numbers beside 24 thousand of the element table
    state = {f"{k}.{name}": t for k in range(10) for name, t in build_model(TINY).state_dict().items()}
    facts = {"format": 2, "n_models": 10, "model": config.to_dict(), "target_mean": 0.0, "target_std": 1.0}
    save_file(state, tmp_path / "m", {"lgdcnn": json.dumps(facts)})
    with pytest.raises(InputError, match="10 models of such a resolution"): load_quietly(tmp_path / "m")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes\nmore")])
def test_too_little_memory_is_said_in_one_line(saved, tmp_path, monkeypatch, error):
    from lgdcnn.estimators import files
    (tmp_path / "m").write_bytes(saved["regressor"][0])
    def none_left(*_): raise error
    with monkeypatch.context() as m:
        m.setattr(files, "build_model", none_left)
        with pytest.raises(InputError) as e: files.restore(TINY, read_weights(tmp_path / "m"), 0, "cpu")
    assert "there is no room for a network of" in str(e.value) and "\n" not in str(e.value)
    monkeypatch.setattr(torch.Tensor, "clone", none_left)
    with pytest.raises(InputError, match="not enough memory") as e: load_model(tmp_path / "m")
    assert "\n" not in str(e.value)


def read_weights(path): return load_file(path)


def test_a_header_longer_than_any_is_not_read(tmp_path):
    (tmp_path / "m").write_bytes((17 << 20).to_bytes(8, "little") + b"{" + b" " * (18 << 20))
    with pytest.raises(InputError, match="is too long"): load_model(tmp_path / "m")
