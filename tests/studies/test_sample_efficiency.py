"Parts are nested and never reach into the test rows; the network shows what the estimator shows; a run goes on."
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lgdcnn.studies.sample_efficiency as module
from lgdcnn import cecv
from lgdcnn.composition import featurize
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.studies.sample_efficiency import SamplePlan, divide, part, read_sizes, run_sample_efficiency
from lgdcnn.training.device import Machine
from lgdcnn.training.trained import Trained

NARROW = MODELS["l-g-dcnn"].replace(d_model=16, conv_width=16)


@given(st.integers(20, 5000), st.lists(st.floats(0.001, 1), min_size=2, max_size=5), st.integers(0, 5))
def test_parts_are_nested_and_keep_off_the_test_rows(n, fractions, seed):
    test, rest = divide(n, SamplePlan(split_seed=seed))
    assert sorted([*test, *rest]) == list(range(n)) and len(test) == round(0.1 * n)
    parts = [set(part(rest, n, f)) for f in sorted(fractions)]
    assert all(a <= b for a, b in pairwise(parts)) and not parts[-1] & set(test)
    assert all(len(p) >= min(f * n, len(rest)) - 1e-6 for p, f in zip(parts, sorted(fractions), strict=True))


@pytest.mark.parametrize("fraction", [-0.1, 0, 1.01, float("nan")])
def test_what_is_no_fraction_is_refused(fraction):
    with pytest.raises(InputError, match="fraction = "): part(np.arange(9), 10, fraction)


def test_the_network_shows_what_the_estimator_shows(fitted, embedded):
    ours = Trained(fitted.networks_[0], (fitted.target_mean_, fitted.target_std_))
    formulas = embedded.part("test")[0]
    assert ours.predict(featurize(formulas)) == pytest.approx(fitted.predict(formulas), abs=1e-5)
    (x, mask), (y, known) = ours.embed(formulas), fitted.embed(formulas)
    assert (mask == known).all() and np.allclose(x, y, atol=1e-5)
    counts = [list(cecv.compute(m, formulas, "O").counts) for m in (ours, fitted)]
    assert counts[0] == counts[1]


@pytest.fixture
def plan():
    protocol = PROTOCOLS["brief"].replace(epochs=3)
    return SamplePlan("exp_formation_enthalpy", (NARROW,), protocol=protocol, fractions=(0.1,), element="O", n_orders=2)


def test_an_interrupted_run_goes_on(plan, tmp_path, monkeypatch):
    machine, fit, epochs = Machine.choose("cpu", "fp32"), module.train_network, []
    whole = run_sample_efficiency(tmp_path / "whole", plan, machine)

    def stop(line):
        epochs.append(line["epoch"])
        if len(epochs) == 1: raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_network", lambda *a, **kw: fit(*a, on_epoch=stop, **kw))
    with pytest.raises(KeyboardInterrupt): run_sample_efficiency(tmp_path / "cut", plan, machine)
    lines, counts = read_sizes(tmp_path / "cut" / "sample_efficiency")
    assert not len(lines) and not len(counts)
    again = run_sample_efficiency(tmp_path / "cut", plan, machine)
    assert epochs == [1, 2, 3]  # the first epoch is not repeated
    changing = ["seconds", "finished"]
    assert again.drop(columns=changing).to_csv() == whole.drop(columns=changing).to_csv()


def test_another_division_is_another_run(plan, tmp_path):
    machine = Machine.choose("cpu", "fp32")
    other = SamplePlan(**vars(plan) | {"split_seed": 1})
    for p in (plan, other, plan): lines = run_sample_efficiency(tmp_path, p, machine)
    assert list(lines.split_seed) == [0, 1] and lines.mae.nunique() == 2
