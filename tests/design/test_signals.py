"""Signals on networks so small that their values are known: by hand, by a limit, or by what must not change them."""
import math

import numpy as np
import pytest
import torch

from lgdcnn import cecv
from lgdcnn.cecv import THRESHOLDS
from lgdcnn.composition import featurize
from lgdcnn.config import InputError
from lgdcnn.design.grammar import Design
from lgdcnn.design.looks import View, choose_view, layer_of, look
from lgdcnn.design.measured import rival_value
from lgdcnn.design.signals import activation_codes, gradient_norm, naswot, operations, signals, synflow
from lgdcnn.networks.layers import CompositionTensors
from lgdcnn.networks.models import build_model, n_parameters
from lgdcnn.training.losses import LOSSES
from lgdcnn.training.trained import Trained

network = lambda name, seed=0: build_model(Design.from_name(name).config, seed)


def packed(*formulas: str):
    tensors = CompositionTensors(featurize(list(formulas)))
    return tensors.pack(torch.arange(len(formulas)))


@pytest.mark.parametrize("d", [8, 12])
def test_parameters_are_those_that_are_counted_by_hand(d):
    "Table of 200 numbers to d, its scale and two of the fractions; attention's two maps; a head of three channels."
    embedder, attention, head = 200 * d + d + 3, d * d + d + d + 1, 3 * d + 3
    assert n_parameters(network(f"a-{d}")) == embedder + attention + head
    direction = 4 * (d // 2) * (d + d // 2) + 2 * 4 * (d // 2)  # of an LSTM: input, state, and two biases
    assert n_parameters(network(f"l-{d}")) == embedder + 2 * direction + head
    unit = lambda k: k * d * d + d
    assert n_parameters(network(f"c-{d}-k3u2")) == embedder + unit(3) + 2 * 2 * unit(3) + head
    assert n_parameters(network(f"aca-{d}-k1u1")) == embedder + attention + 3 * unit(1) + head  # one attention, twice used


def test_operations_grow_as_the_square_of_width_and_not_with_the_batch():
    of = lambda d, *formulas: operations(network(f"a-{d}"), packed(*formulas)) * len(formulas)
    table = lambda d: 2 * 119 * 200 * d  # projected once for a batch
    for d in (8, 16):
        assert of(d, "NaCl") - table(d) == 2 * 2 * (d * d + d + 3 * d)  # two rows: attention's two maps and the head
        assert of(d, "NaCl", "CaTiO3") - table(d) == 5 * 2 * (d * d + d + 3 * d)


def test_gradient_norm_is_the_steepest_slope():
    "A step along the gradient changes the loss by the norm times its length: seen without any derivative."
    net, rows, z = network("a-8").double(), packed("NaCl", "CaTiO3"), torch.tensor([[0.3], [-1.2]]).double()
    for buffer in net.buffers():
        if buffer.is_floating_point(): buffer.data = buffer.data.double()
    LOSSES["laplace"](z, *net(rows)).backward()
    direction = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    norm = gradient_norm(net, rows, z, "laplace")
    assert all(p.grad is None for p in net.parameters())  # nothing is left behind
    def loss_at(step):
        with torch.no_grad():
            for name, p in net.named_parameters():
                if name in direction: p += step * direction[name] / norm
            value = float(LOSSES["laplace"](z, *net(rows)))
            for name, p in net.named_parameters():
                if name in direction: p -= step * direction[name] / norm
        return value
    assert (loss_at(1e-4) - loss_at(-1e-4)) / 2e-4 == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("name", ["la-8", "c-8-k3u1", "sm-8"])
def test_synflow_sees_no_data_and_no_sign(name):
    net = network(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.random.get_rng_state()
    value = synflow(net, packed("NaCl", "CaTiO3"))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state()) and math.isfinite(value)
    assert synflow(net, packed("KBr", "SrZrS3")) == pytest.approx(value, abs=1e-6)  # other elements in the same places
    with torch.no_grad():
        for p in net.parameters(): p.mul_(torch.randn(p.shape).sign())
    assert synflow(net, packed("NaCl", "CaTiO3")) == pytest.approx(value, abs=1e-6)


def test_synflow_of_nothing_is_its_floor():
    net = network("a-8")
    with torch.no_grad():
        for p in net.parameters(): p.zero_()
    assert synflow(net, packed("NaCl")) == -300


def test_synflow_is_as_linear_as_the_last_layer():
    "What flows is a product: a factor before it is a summand of its logarithm."
    net, rows = network("c-8-k1u1"), packed("NaCl")
    before = synflow(net, rows)
    with torch.no_grad():
        for p in net.head.parameters(): p.mul_(10)
    assert synflow(net, rows) == pytest.approx(before + 1, abs=1e-6)  # the last layer is linear: ten times, one decade


def test_naswot_of_two_formulas_by_hand():
    "Of two codes of n units that differ in h the kernel is (n, n - h; n - h, n)."
    net, rows = network("c-8-k3u1"), packed("NaCl", "TiO2")
    codes = activation_codes(net, rows)
    n, h = codes.shape[1], int((codes[0] != codes[1]).sum())
    assert 0 < h < n and naswot(net, rows) == pytest.approx(math.log(n ** 2 - (n - h) ** 2))


@pytest.mark.parametrize("name", ["a-8", "l-8", "c-8-k1u1", "s-8", "m-8"])
def test_naswot_of_identical_codes_is_the_lowest(name):
    "A formula that stands twice adds nothing: no volume is spanned. That is no error, and ranks lowest."
    value = naswot(network(name), packed("NaCl", "NaCl", "TiO2"))
    assert value == -math.inf or value < naswot(network(name), packed("NaCl", "KBr", "TiO2")) - 10
    assert rival_value({"signals": {"naswot": None}}, "naswot") == -math.inf


def test_naswot_does_not_hang_on_the_order_of_the_formulas():
    net = network("c-8-k3u2")
    assert naswot(net, packed("NaCl", "KBr", "TiO2")) == pytest.approx(naswot(net, packed("TiO2", "NaCl", "KBr")))


def test_codes_of_several_sizes_are_refused():
    with pytest.raises(InputError, match="formulas of one size"): activation_codes(network("a-8"), packed("NaCl", "CaTiO3"))


def test_all_signals_come_together_and_change_nothing():
    net = network("lc-8-k1u1")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = signals(net, packed("NaCl", "TiO2"), torch.zeros(2, 1), packed("NaCl", "TiO2"))
    assert set(found) == {"parameters", "operations", "gradient_norm", "synflow", "naswot"} and found["parameters"] == n_parameters(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_the_early_error_is_that_of_the_second_epoch():
    assert rival_value({"val": [3.0, 2.0, 1.0]}, "early_error") == 2.0
    assert rival_value({"val": [3.0]}, "early_error") == math.inf  # lost before it was known: ranks last


# looks

FORMULAS = ("CaTiO3", "SrTiO3", "BaTiO3", "LiFePO4", "NaFePO4", "Na2SO4", "K2SO4", "CaSiO3", "MgSiO3", "NaAlSi2O6", "KAlSi3O8", "TiO2")


@pytest.mark.parametrize("name", ["lac-8-k3u1", "s-8", "m-8+0"])
def test_a_look_is_the_sum_of_cecv_over_its_elements(name):
    net, view = network(name), View(("O", "Ti"), FORMULAS)
    seen = look(net, view, layer_of(Design.from_name(name), "read"), n_orders=5)
    for layer in net.layer_names:
        alone = [cecv.compute(Trained(net), FORMULAS, e, layer=layer) for e in view.elements]
        assert seen.counts[layer] == np.sum([r.counts for r in alone], axis=0).tolist()
    assert seen.compounds == 11 + 3
    assert all(len(c) == len(THRESHOLDS) and max(c) <= seen.compounds for c in seen.counts.values())


def test_a_look_does_not_see_what_comes_after():
    "Neither the head nor a scale of the predictions changes what is told apart."
    net, view = network("lac-8-k3u1"), View(("O",), FORMULAS)
    seen = look(net, view, "dcnn-branch", 3)
    with torch.no_grad():
        for p in net.head.parameters(): p.mul_(-3).add_(1)
    assert look(net, view, "dcnn-branch", 3) == seen


def test_the_view_takes_the_most_frequent_elements_of_compounds_with_three_to_seven():
    view = choose_view(FORMULAS, n_elements=2, most=4)
    assert view.elements[0] == "O" and "TiO2" not in view.formulas and len(view.formulas) <= 8
    assert choose_view(FORMULAS, n_elements=2, most=4) == view
    with pytest.raises(InputError, match="no compound has 3 to 7 elements"): choose_view(["NaCl", "TiO2"])
