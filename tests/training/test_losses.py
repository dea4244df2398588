"Losses skip what is unknown, weigh what is known, and agree with torch and scikit-learn."
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.composition import featurize
from lgdcnn.config import MODELS, PROTOCOLS
from lgdcnn.networks.layers import CompositionTensors
from lgdcnn.networks.models import build_model
from lgdcnn.training.loop import Rows, fit_network, mean_absolute_error
from lgdcnn.training.losses import LOSSES, link


def batch(seed, holes=0.0, n=12, k=3):
    g = torch.Generator().manual_seed(seed)
    z, m, s = (torch.randn(n, k, generator=g) for _ in range(3))
    hole = torch.rand(n, k, generator=g) < holes
    return z, m.requires_grad_(), s.requires_grad_(), hole


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_a_known_target_moves_nothing(name):
    z, m, s, _ = batch(0)
    for hole, weight in ((torch.full_like(z, math.nan), None), (z.sigmoid(), torch.zeros(12, 1))):
        m.grad = s.grad = None
        loss = LOSSES[name](hole, m, s, weight)
        loss.backward()
        assert loss.item() == 0 and not m.grad.any() and (s.grad is None or not s.grad.any())


def test_training_goes_on_over_empty_batches():
    "Three known targets among sixty rows, in batches of four: most batches hold none."
    data = CompositionTensors(featurize([f"Na{n}Cl" for n in range(1, 61)]))
    z = torch.full((60, 1), math.nan)
    z[[0, 20, 40]] = torch.tensor([[-1.0], [0.0], [1.0]])
    network = build_model(MODELS["l-g-dcnn"].replace(d_model=16, conv_width=16))
    history = fit_network(network, Rows(data, z), PROTOCOLS["fast"].replace(epochs=2, batch_size=4))
    assert all(math.isfinite(line["loss"]) for line in history)
    assert all(p.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10 ** 6))
def test_holes_are_left_out(name, seed):
    z, m, s, hole = batch(seed, 0.4)
    if name == "bce": z = (z > 0).float()
    hole[0] = False
    LOSSES[name](z.masked_fill(hole, math.nan), m, s).backward()
    grad, grad_s = m.grad.clone(), s.grad.clone() if s.grad is not None else torch.zeros_like(s)
    assert (grad[hole] == 0).all() and (grad_s[hole] == 0).all() and grad.isfinite().all()
    known = [t[~hole][:, None].detach().requires_grad_() for t in (z, m, s)]
    LOSSES[name](*known).backward()
    assert torch.allclose(grad[~hole], known[1].grad[:, 0], atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10 ** 6))
def test_a_weight_counts_a_row_so_many_times(name, seed):
    z, m, s, _ = batch(seed)
    if name == "bce": z = (z > 0).float()
    times = torch.randint(0, 4, (12,), generator=torch.Generator().manual_seed(seed))
    times[0] = 1
    weighed = LOSSES[name](z, m, s, times.float()[:, None])
    repeated = LOSSES[name](*(t.repeat_interleave(times, 0) for t in (z, m, s)))
    assert weighed.item() == pytest.approx(repeated.item(), rel=1e-4, abs=1e-6)


def test_without_holes_the_mean_is_torchs_own():
    z, m, s, _ = batch(0)
    assert LOSSES["l1"](z, m, s).item() == torch.nn.functional.l1_loss(m, z).item()
    assert LOSSES["huber"](z, m, s).item() == torch.nn.functional.huber_loss(m, z).item()
    labels = (z > 0).float()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(m, labels)
    assert LOSSES["bce"](labels, m, s).item() == pytest.approx(bce.item())
    assert not LOSSES["l1"](z * math.inf, m, s).isfinite(), "only NaN means unknown"


def test_classes_are_learned_by_heart():
    data = CompositionTensors(featurize(["NaCl", "KCl", "Fe", "FeNi", "MgO", "Al2O3", "CuZn", "Au"]))
    salt = torch.tensor([1.0, 1, 0, 0, 1, 1, 0, 0])[:, None]
    config = PROTOCOLS["fast"].replace(epochs=150, learning_rate=3e-3, loss="bce", jitter=0.0)
    net = build_model(MODELS["l-g-dcnn"].replace(d_model=32, conv_width=32))
    history = fit_network(net, Rows(data, salt), config, validation=Rows(data, salt))
    assert history[-1]["val_mae"] == pytest.approx(mean_absolute_error(net, Rows(data, salt), "bce")) and history[-1]["val_mae"] < 0.1
    assert link("bce")(torch.zeros(1)).item() == 0.5
