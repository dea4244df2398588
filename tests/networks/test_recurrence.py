"What must hold for a recurrence that we walk through ourselves."
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from lgdcnn.config import MODELS
from lgdcnn.networks.models import build_model
from lgdcnn.networks.recurrence import read_both_ways, walk

falling = st.lists(st.integers(1, 6), min_size=1, max_size=6).map(lambda sizes: tuple(sorted(sizes, reverse=True)))
CELLS = pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])


def case(cell, sizes, dtype=torch.float64):
    torch.manual_seed(len(sizes))
    return cell(5, 3, bidirectional=True).to(dtype), torch.randn(sum(sizes), 5, dtype=dtype, requires_grad=True)


@given(falling, st.booleans())
def test_every_state_comes_from_the_row_beside(sizes, backwards):
    rows = [(b, t) for t, n in enumerate(sizes) for b in range(n)]  # formula and place of each row
    heard = {}
    for a, n, before, k in walk(sizes, backwards):
        for i in range(n): heard[rows[a + i]] = rows[before + i] if i < k else None
    step = 1 if backwards else -1
    assert heard == {(b, t): (b, t + step) if (b, t + step) in rows else None for b, t in rows}


@CELLS
@settings(max_examples=30, deadline=None)
@given(sizes=falling)
def test_it_is_torchs_own_layer(cell, sizes):
    rnn, x = case(cell, sizes)
    ours, theirs = read_both_ways(rnn, x, sizes), rnn(PackedSequence(x, torch.tensor(sizes)))[0].data
    assert torch.allclose(ours, theirs, atol=1e-12)
    weight = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), [x, *rnn.parameters()]) for y in (ours, theirs)), strict=True):
        assert torch.allclose(a, b, atol=1e-11)


@CELLS
def test_gradients_are_the_slopes(cell):
    rnn, x = case(cell, (3, 2, 2))
    names = [name for name, _ in rnn.named_parameters()]

    def read(x, *weights):
        clone = cell(5, 3, bidirectional=True).double()
        for name in names: delattr(clone, name)
        for name, w in zip(names, weights, strict=True): setattr(clone, name, w)
        return read_both_ways(clone, x, (3, 2, 2))
    assert torch.autograd.gradcheck(read, (x, *(p.detach().requires_grad_() for p in rnn.parameters())))


@CELLS
def test_bfloat16_stays_near_float32(cell):
    rnn, x = case(cell, (8, 8, 3), torch.float32)
    with torch.autocast("cpu", torch.bfloat16): rough = read_both_ways(rnn, x, (8, 8, 3))
    assert rough.dtype == torch.bfloat16
    exact = read_both_ways(rnn, x, (8, 8, 3))
    assert 0 < (rough.float() - exact).abs().max() < 0.02
    near, far = (torch.autograd.grad(y.float().square().sum(), list(rnn.parameters())) for y in (rough, exact))
    for a, b in zip(near, far, strict=True): assert (a - b).norm() < 0.03 * b.norm() and a.dtype == torch.float32


def test_a_layer_that_learns_only_its_weights():
    "The first layer's input needs no gradient if nothing below learns."
    net = build_model(MODELS["lstm"].replace(d_model=8))
    rnn, x = net.stages["lstm"].rnn, torch.randn(5, 8)
    read_both_ways(rnn, x, (3, 2)).sum().backward()
    assert all(p.grad.isfinite().all() for p in rnn.parameters())
