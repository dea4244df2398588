"The peers' encoders: the formulas of their papers, no hidden randomness, layers that can be looked at."
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lgdcnn import LGDCNNRegressor, cecv
from lgdcnn.composition import SYMBOLS, featurize
from lgdcnn.config import MODELS, InputError
from lgdcnn.networks.layers import CompositionTensors, Packed, spread
from lgdcnn.networks.models import build_model
from lgdcnn.networks.peers import Dropout, Elements, MessagePassing, Pairs, SelfAttention, WeightedAttention

formulas = st.dictionaries(st.sampled_from(SYMBOLS[1:95]), st.integers(1, 20), min_size=1, max_size=7)
batches = st.lists(formulas.map(lambda p: "".join(f"{s}{n}" for s, n in p.items())), min_size=1, max_size=5)
NARROW = {name: MODELS[name].replace(d_model=32) for name in ("crabnet-style", "roost-style")}


def pack(written):
    return CompositionTensors(featurize(written)).pack(torch.arange(len(written)))


def rows(packed, width=16, seed=0):
    return torch.randn(len(packed.numbers), width, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(batches)
@torch.no_grad()
def test_self_attention_is_torchs_own_on_each_formula(written):
    packed = pack(written)
    layer = SelfAttention(16, MODELS["crabnet-style"]).eval()
    theirs = nn.TransformerEncoderLayer(16, 4, 64, dropout=0.1, batch_first=True).eval()
    ours = (*layer.qkv.parameters(), *layer.mix.parameters(), *layer.dense.parameters(), *layer.norms.parameters())
    for a, b in zip(theirs.parameters(), ours, strict=True): a.copy_(b)
    mine, table = spread(layer(rows(packed), packed), packed), spread(rows(packed), packed)
    for b, n in enumerate(packed.n_elements.tolist()):
        assert torch.allclose(theirs(table[b:b + 1, :n])[0], mine[b, :n], atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(batches)
@torch.no_grad()
def test_message_passing_is_the_papers_sum(written):
    packed = pack(written)
    layer, h = MessagePassing(8, None), rows(packed, 8)
    mine, table, fractions = (spread(t, packed) for t in (layer(h, packed), h, packed.fractions[:, None]))
    for b, n in enumerate(packed.n_elements.tolist()):
        for i in range(n):
            update = torch.zeros(8)
            for head in layer.heads:
                z = torch.stack([torch.cat([table[b, i], table[b, j]]) for j in range(n)])
                a = fractions[b, :n] * head.gate(z).exp()
                update += (a / a.sum() * head.message(z)).sum(0) / 3
            assert torch.allclose(mine[b, i], table[b, i] + update, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(batches)
@torch.no_grad()
def test_weights_of_a_group_sum_to_one(written):
    packed = pack(written)
    pairs, elements = Pairs(packed), Elements(packed)
    assert sum(pairs.sizes) == (packed.n_elements ** 2).sum()
    scores = 5 * torch.randn(sum(pairs.sizes), 1)
    assert torch.allclose(pairs.sum(pairs.softmax(scores)), torch.ones(len(packed.numbers), 1), atol=1e-6)
    pooled = elements.softmax(torch.randn(len(packed.numbers), 1))
    assert torch.allclose(elements.sum(pooled), torch.ones(len(written), 1), atol=1e-6)


@torch.no_grad()
def test_with_an_indifferent_gate_fractions_are_the_weights():
    packed, head = pack(["Fe2O3", "LiFePO4"]), WeightedAttention(8, 32, 8)
    for p in head.gate[2].parameters(): p.zero_()
    h, f = rows(packed, 8), packed.fractions[:, None]
    assert torch.allclose(head(h, f.log(), Elements(packed)), spread(f * head.message(h), packed).sum(1), atol=1e-6)


@pytest.mark.parametrize("name", NARROW)
@torch.no_grad()
def test_elements_are_a_set(name):
    "Neither transformer nor message passing asks for the order of elements; the recurrent nets do."
    alone = pack(["Ca3(PO4)2"])
    swapped = Packed(alone.numbers.flip(0), alone.fractions.flip(0), alone.sizes, alone.order)
    net, recurrent = build_model(NARROW[name]).eval(), build_model(MODELS["lstm"].replace(d_model=32)).eval()
    assert torch.allclose(net(alone)[0], net(swapped)[0], atol=1e-5)
    assert not torch.allclose(recurrent(alone)[0], recurrent(swapped)[0], atol=1e-5)


@torch.no_grad()
def test_roost_sees_the_fraction_as_its_last_channel():
    packed = pack(["Fe2O3"])
    x = build_model(NARROW["roost-style"]).embedder(packed)
    assert torch.equal(x[:, -1], packed.fractions) and x.shape == (2, 32)


def test_dropout_keeps_the_mean_and_the_callers_randomness():
    before, drop, x = torch.get_rng_state(), None, torch.ones(400, 500)
    with torch.random.fork_rng(devices=[]): drop = Dropout(0.3)
    y = drop(x)
    assert abs(y.mean() - 1) < 0.01 and abs((y == 0).float().mean() - 0.3) < 0.01
    assert not torch.equal(y, drop(x))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(drop.eval()(x), x)


def test_dropout_goes_on_after_loading():
    x, a, b = torch.ones(10, 50), Dropout(0.5), Dropout(0.5)
    a(x)
    assert not torch.equal(a(x), b(x))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))


def test_layers_of_one_kind_have_weights_of_their_own():
    net = build_model(NARROW["crabnet-style"])
    a, b = (net.stages[f"self-attention:{k}"].qkv.weight for k in (1, 2))
    assert not torch.equal(a, b)
    names = [n for n, _ in build_model(NARROW["roost-style"].replace(stages=("message", "message"))).named_parameters()]
    assert not [n for n in names if "message:" in n]  # without a colon, a repeated name is one module


@pytest.fixture(scope="module")
def trained(embedded):
    written, y = (a[:200] for a in embedded.part("train"))
    fit = lambda config, seed=0: LGDCNNRegressor(config, epochs=2, seed=seed, device="cpu", verbose=False).fit(written, y)
    return {name: (fit(config), fit(config)) for name, config in NARROW.items()}


@pytest.mark.parametrize("name", NARROW)
def test_training_is_reproducible_and_saved_whole(name, trained, tmp_path):
    first, again = trained[name]
    written = ["Fe2O3", "NaCl", "LiFePO4", "Fe"]
    assert np.array_equal(first.predict(written), again.predict(written))
    assert np.ptp(first.predict(written)) > 0
    loaded = LGDCNNRegressor.load(first.save(tmp_path / "m.lgdcnn"), device="cpu")
    assert np.array_equal(first.predict(written), loaded.predict(written))


@pytest.mark.parametrize("name, layers", [
    ("crabnet-style", ("input", "self-attention:1", "self-attention:2", "self-attention:3", "residual", "output")),
    ("roost-style", ("input", "message:1", "message:2", "message:3", "output"))])
def test_every_layer_can_be_looked_at(name, layers, trained, embedded):
    model = trained[name][0]
    assert model.layers == layers
    found, mask = model.embed_layers(["Ca3(PO4)2", "NaCl"], layers)
    widths = {k: v.shape[2] for k, v in found.items()}
    assert mask.tolist() == [[True, True, True], [True, True, False]]
    assert widths == {k: 8 if name == "crabnet-style" and k in ("residual", "output") else 32 for k in layers}
    curve = cecv.compute(model, embedded.part("test")[0], "O", layers[2])
    assert curve.n_compounds > 20 and (np.diff(curve.counts) <= 0).all()


@pytest.mark.parametrize("change, message", [
    ({"dropout": 1.0}, "dropout = 1.0"), ({"pooling": "max"}, "known are attention, fraction, mean"),
    ({"fraction": "none"}, "known are channel, sinusoid"), ({"stages": ("mesage:1",)}, "did you mean 'message'")])
def test_impossible_peers_are_refused(change, message):
    with pytest.raises(InputError, match=message): build_model(NARROW["roost-style"].replace(**change))


def test_new_fields_leave_old_digests():
    "A field added later counts only where it is used: stored results keep their names."
    assert MODELS["l-g-dcnn"].digest() == type(MODELS["l-g-dcnn"])().digest() == "44136fa355"
    assert MODELS["roost-style"].digest() != MODELS["roost-style"].replace(pooling="mean").digest()
