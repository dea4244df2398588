"What must hold for every network, whatever its weights."
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.composition import SYMBOLS, featurize
from lgdcnn.config import MODELS, InputError, ModelConfig
from lgdcnn.estimators.files import read_model
from lgdcnn.estimators.regressor import LGDCNNRegressor
from lgdcnn.networks.layers import Attention, CompositionTensors, ElementConv, SmoothFraction, collect, jitter, spread
from lgdcnn.networks.models import build_model, n_parameters

# Narrow versions for the many random cases; test_full_width repeats the main truths with the networks as they are used.
NETS = {name: build_model(config.replace(d_model=96, conv_width=96), seed=1).eval() for name, config in MODELS.items()}
amounts = st.integers(1, 40)
formulas = st.dictionaries(st.sampled_from(SYMBOLS[1:95]), amounts, min_size=1, max_size=8)


def text(parts, factor=1):
    return "".join(f"{s}{n * factor}" for s, n in parts.items())


@torch.no_grad()
def predict(net, written):
    data = CompositionTensors(featurize(written))
    return torch.cat(net(data.pack(torch.arange(len(written)))), dim=1).double().numpy()


def test_the_papers_number_of_parameters():
    assert n_parameters(build_model(MODELS["l-g-dcnn"])) == 8_635_911


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=10, deadline=None)
@given(st.lists(formulas, min_size=1, max_size=6), st.integers(2, 9), st.randoms(use_true_random=False))
def test_spelling_and_company_change_nothing(name, parts, factor, random):
    "Order of elements, scale of amounts, other formulas in the batch (also longer ones): same prediction."
    net = NETS[name]
    together = predict(net, [text(p) for p in parts])
    shuffled = []
    for p in parts:
        items = list(p.items())
        random.shuffle(items)
        shuffled.append(text(dict(items), factor))
    long = "Fe60Cr20Ni10Mn3Si2Mo2V1W1Co1Nb1Ti1Al1C1"
    assert np.allclose(together, predict(net, shuffled), atol=1e-5)
    assert np.allclose(together, predict(net, [long, *(text(p) for p in parts), "H"])[1:-1], atol=1e-5)
    assert np.allclose(together, np.concatenate([predict(net, [text(p)]) for p in parts]), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_full_width(name):
    net = build_model(MODELS[name], seed=2).eval()
    written = ["Ca3(PO4)2", "NaCl", "Fe60Cr20Ni10Mn3Si2Mo2V1W1Co1Nb1Ti1Al1C1", "H"]
    together = predict(net, written)
    assert np.allclose(together, np.concatenate([predict(net, [f]) for f in written]), atol=1e-5)
    assert np.allclose(together[:2], predict(net, ["O8P2Ca3", "Cl2Na2"]), atol=1e-5)


def test_brackets_change_nothing():
    a, b = predict(NETS["l-g-dcnn"], ["Ca3(PO4)2", "Ca3P2O8"])
    assert np.allclose(a, b, atol=1e-6)


def packed_batch(*written):
    return CompositionTensors(featurize(written)).pack(torch.arange(len(written)))


@settings(max_examples=30, deadline=None)
@given(st.lists(formulas, min_size=1, max_size=6))
def test_attention_is_shared_among_real_elements(parts):
    packed = packed_batch(*(text(p) for p in parts))
    attention = Attention(16, None)
    weights = attention.weights(torch.randn(len(packed.numbers), 16) * 3, packed)
    assert torch.allclose(spread(weights, packed).sum(1), torch.ones(len(parts), 1), atol=1e-6)
    assert (weights > 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_no_gradient_crosses_formulas_or_reaches_padding(name, monkeypatch):
    packed = packed_batch("LiFePO4", "NaCl", "Fe")
    net = NETS[name]
    x = net.embedder(packed).detach()
    table = spread(x, packed).requires_grad_()     # (B, n_max, d), with holes where there is no element
    rows = collect(table, packed)
    monkeypatch.setattr(net.embedder, "forward", lambda _: rows)
    net(packed)[0][1].sum().backward()             # the prediction of NaCl alone
    grad = table.grad.abs().sum(-1)
    assert rows.shape == x.shape and torch.equal(rows, x)
    assert (grad[1, :2] > 0).all()
    assert (grad[1, 2:] == 0).all() and (grad[0] == 0).all() and (grad[2] == 0).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(formulas, min_size=1, max_size=5), st.sampled_from([1, 3, 5]))
def test_convolution_is_torchs_own_on_each_formula(parts, kernel):
    packed = packed_batch(*(text(p) for p in parts))
    conv, x = ElementConv(6, 4, kernel), torch.randn(len(packed.numbers), 6)
    weight = conv.linear.weight.unflatten(1, (kernel, 6)).transpose(1, 2)
    mine, theirs = spread(conv(x, packed), packed), spread(x, packed)
    for b, n in enumerate(packed.n_elements.tolist()):
        alone = F.conv1d(theirs[b:b + 1, :n].transpose(1, 2), weight, conv.linear.bias, padding=kernel // 2)[0].T
        assert torch.allclose(mine[b, :n], alone, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(formulas, min_size=1, max_size=5), st.sampled_from([1, 3, 5]))
def test_convolution_has_the_gradient_of_torchs_own(parts, kernel):
    "Written by hand for speed, so compared with what autograd finds, for rows, weights and bias."
    packed = packed_batch(*(text(p) for p in parts))
    conv, x = ElementConv(6, 4, kernel).double(), torch.randn(len(packed.numbers), 6, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(len(x), 4, dtype=torch.float64)
    mine = torch.autograd.grad((conv(x, packed) * pull).sum(), [x, *conv.parameters()])
    weight = conv.linear.weight.unflatten(1, (kernel, 6)).transpose(1, 2)
    alone = [F.conv1d(spread(x, packed)[b:b + 1, :n].transpose(1, 2), weight, conv.linear.bias, padding=kernel // 2)[0].T
             for b, n in enumerate(packed.n_elements.tolist())]
    padded = torch.stack([F.pad(y, (0, 0, 0, len(packed.sizes) - len(y))) for y in alone])
    theirs = torch.autograd.grad((collect(padded, packed) * pull).sum(), [x, *conv.parameters()])
    for m, t in zip(mine, theirs, strict=True): assert torch.allclose(m, t, atol=1e-10)


@torch.no_grad()
def test_padding_on_request_changes_predictions_as_in_the_reference_and_nowhere_else():
    written = ["Fe2O3", "NaCl", "LiFePO4"]
    net, at = NETS["l-g-dcnn"], torch.arange(3)
    plain, same, longer = (net(CompositionTensors(featurize(written), pad_to=n).pack(at))[0].flatten() for n in (0, 4, 9))
    assert torch.allclose(plain[2], same[2], atol=1e-6)  # four elements padded to four
    assert (plain - longer).abs().min() > 1e-6           # the flaw that is shown
    local = NETS["dcnn-k1"]                              # no element sees another, so no padding either
    assert torch.allclose(*(local(CompositionTensors(featurize(written), pad_to=n).pack(at))[0] for n in (0, 9)), atol=1e-6)
    with pytest.raises(InputError, match="pad_to = 3 .* formulas of 4 elements"):
        CompositionTensors(featurize(written), pad_to=3)


def test_local_and_global():
    "Only in DCNN-K1 is an element's vector independent of its partners."
    packed = packed_batch("Fe2O3", "Fe2S3")
    iron = {name: list(net.outputs(packed))[-1][1][packed.numbers == 26] for name, net in NETS.items()}
    assert torch.allclose(*iron["dcnn-k1"], atol=1e-6)
    assert all((x[0] - x[1]).abs().max() > 1e-3 for name, x in iron.items() if name != "dcnn-k1")


def test_jitter_keeps_sums_and_order_of_rows():
    packed = packed_batch("LiFePO4", "NaCl", "Fe")
    noisy = jitter(packed, 0.02, torch.Generator().manual_seed(0))
    assert torch.allclose(spread(noisy.fractions[:, None], noisy).sum(1), torch.ones(3, 1))
    assert not torch.equal(noisy.fractions, packed.fractions) and torch.equal(noisy.numbers, packed.numbers)
    assert spread(noisy.fractions[:, None], noisy)[2, 0] == 1  # pure iron stays pure
    assert jitter(packed, 0.0, torch.Generator()) is packed
    padded = CompositionTensors(featurize(["LiFePO4", "NaCl", "Fe"]), pad_to=5).pack(torch.arange(3))
    noisy = jitter(padded, 0.02, torch.Generator().manual_seed(0))
    assert noisy.real == padded.real and torch.equal(noisy.fractions > 0, padded.fractions > 0)
    assert torch.allclose(spread(noisy.fractions[:, None], noisy).sum(1), torch.ones(3, 1))


SIZES = {  # trainable parameters added up by hand: embedding with two scales, stages, head
    "lstm": 102_912 + 3 + 1_576_960 + 1_539,
    "gru": 102_912 + 3 + 1_182_720 + 1_539,
    "dcnn": 102_912 + 3 + 7 * 786_944 + 1_539,
    "dcnn-k1": 102_912 + 3 + (512 * 256 + 256) + 6 * (256 * 256 + 256) + (3 * 256 + 3),
    "ldcnn": 102_912 + 3 + 1_576_960 + 7 * 786_944 + 1_539,
    "l-att-res-dcnn": 102_912 + 3 + 1_576_960 + 263_169 + 7 * 786_944 + 1_539,
    "l-g-dcnn": 8_635_911,
    "l-g-dcnn-v1": 8_635_911,  # adding and pooling have no weights, and the width stays
    "l-g-dcnn-onehot": 8_635_911 - 512 * (200 - 118),
    "l-g-dcnn-2-units": 8_635_911 - 2 * 786_944,
    "l-g-dcnn-6-units": 8_635_911 + 6 * 786_944,
    "l-g-dcnn-no-gru": 8_635_911 - 1_182_720,
    "l-g-dcnn-no-attention": 8_635_911 - 263_169,
    "l-g-dcnn-no-cnn": 8_635_911 - 7 * 786_944,
    "l-g-dcnn-smooth": 8_635_911 - 2 + 3 * 512 + 512,  # a linear map instead of two scales
    "l-g-dcnn-tuned": 8_635_911 + 22 * 512,
    "l-g-dcnn-continuous": 8_635_911 - 2 + 3 * 512 + 512,
    "crabnet-style": 102_912 + 3
    + 3 * (4 * (512 * 512 + 512) + (512 * 2048 + 2048) + (2048 * 512 + 512) + 2 * 2 * 512)  # attention, dense, norms
    + 2 * (512 * 1024 + 1024 * 512 + 512 * 256 + 256 * 128) + 1024 + 512 + 256 + 128        # with shortcuts
    + (128 * 3 + 3),
    "best-drawn": 102_912 + 3 + 1_182_720 + 4 * (512 * 512 + 512) + (512 * 2048 + 2048) + (2048 * 512 + 512) + 2 * 2 * 512 + 1_539,
    "roost-style": (200 * 63 + 63)
    + 3 * 3 * ((128 * 256 + 256 + 256 + 1) + (128 * 256 + 256 + 256 * 64 + 64))  # layers, heads: gate and message
    + 3 * ((64 * 256 + 256 + 256 + 1) + (64 * 256 + 256 + 256 * 64 + 64))
    + 2 * (64 * 1024 + 1024 * 512 + 512 * 256 + 256 * 128 + 128 * 64) + 1024 + 512 + 256 + 128 + 64
    + (64 * 2 + 2),
}


@pytest.mark.parametrize("name", MODELS)
def test_size_by_hand(name):
    assert n_parameters(build_model(MODELS[name])) == SIZES[name]


def test_v1_adds_and_pools():
    packed, net = packed_batch("LiFePO4", "NaCl"), NETS["l-g-dcnn-v1"]
    out = dict(net.outputs(packed))
    total = out["attention-1"] + out["attention-2"] + out["dcnn"]
    neighbours = F.pad(total, (1, 1), value=-math.inf).unfold(1, 3, 1).amax(2)  # size 3, stride 1, padding 1
    assert out["merged"].shape == total.shape and torch.allclose(out["merged"], neighbours, atol=1e-6)
    assert net.head.linear.in_features == 96


def test_a_v1_saved_before_its_pool_slid_is_what_it_was():
    "Files then had no field `pool_slides`: windows of three side by side, 96 channels to 32."
    facts = {k: v for k, v in MODELS["l-g-dcnn-v1"].to_dict().items() if k not in ("n_extra", "order", "pool_slides")}
    assert ModelConfig.from_dict(facts).digest() == "42fc156fb7" != MODELS["l-g-dcnn-v1"].digest()
    packed, net = packed_batch("LiFePO4", "NaCl"), build_model(ModelConfig.from_dict(facts | {"d_model": 96, "conv_width": 96}))
    out = dict(net.outputs(packed))
    total = out["dcnn"] + out["attention-1"] + out["attention-2"]
    assert net.head.linear.in_features == 32
    assert torch.allclose(out["merged"], total.unflatten(1, (-1, 3)).amax(2), atol=1e-6)


@pytest.mark.parametrize("name, slides, fields", [
    ("l-g-dcnn-v1", False, set()), ("l-g-dcnn-v1", True, {"pool_slides"}), ("l-g-dcnn-continuous", False, {"order"})])
def test_files_name_later_fields_only_where_they_matter(name, slides, fields, embedded, tmp_path):
    "The first is a V1 as it was saved before its pool slid: the file has no such field, and loads as what it was."
    config = MODELS[name].replace(d_model=48, conv_width=48, pool_slides=slides)
    formulas, y = (a[:40] for a in embedded.part("train"))
    model = LGDCNNRegressor(config, epochs=1, verbose=False).fit(formulas, y, 0)
    path = model.save(tmp_path / "m.lgdcnn")
    assert {"n_extra", "order", "pool_slides"} & set(read_model(path)[0]["model"]) == fields
    again = LGDCNNRegressor.load(path)
    assert again.config_ == config and np.array_equal(again.predict(formulas), model.predict(formulas))
    assert again.networks_[0].head.linear.in_features == (16 if config.channel_pool == 3 and not slides else 48)


@torch.no_grad()
def test_the_branch_of_the_last_residual_unit_is_a_layer():
    "At the sixth call of a Sequential, in the reference: what is added, not the sum."
    packed, net = packed_batch("LiFePO4", "NaCl"), NETS["l-g-dcnn"]
    added = []
    hook = net.stages["dcnn"].units[-1].convs[1].register_forward_hook(lambda module, inputs, y: added.append(y))
    out = dict(net.outputs(packed))
    hook.remove()
    x = net.stages["dcnn"].first(out["attention-2"], packed)
    for unit in net.stages["dcnn"].units[:2]: x = unit(x, packed)
    assert tuple(out) == net.layer_names == ("input", "lstm", "attention-1", "gru", "attention-2", "dcnn-branch", "dcnn")
    assert torch.equal(out["dcnn-branch"], added[0]) and torch.allclose(out["dcnn"], x + out["dcnn-branch"], atol=1e-6)
    assert "dcnn-branch" not in NETS["lstm"].layer_names


E = 1e-6
CROSSINGS = [(f"{a}{1 + E}{b}", f"{a}{b}{1 + E}") for a, b in (("Ti", "O"), ("Fe", "Al"), ("Cu", "Si"), ("Xe", "F"), ("He", "Ne"))]
CROSSINGS += [(f"Li{2 + E}Cu2O", f"Li2Cu{2 + E}O"), (f"Li3Cu{1 + E}O", f"Li3CuO{1 + E}"), (f"Ti{1 + E}AlV{1 - E}", f"Ti{1 - E}AlV{1 + E}")]


@pytest.mark.parametrize("pair", CROSSINGS)
def test_nothing_jumps_where_two_fractions_cross(pair):
    "The limits from both sides agree in the continuous network, and by far not in the paper's order."
    for name, jumps in (("l-g-dcnn-continuous", False), ("l-g-dcnn", True), ("l-g-dcnn-smooth", True)):
        here, there = predict(NETS[name], pair)
        assert (np.abs(here - there).max() > 1e-4) if jumps else (np.abs(here - there).max() < 1e-5), name


@pytest.mark.parametrize("part", ["order", "fraction"])
def test_each_part_of_the_continuous_network_is_needed(part):
    config = MODELS["l-g-dcnn-continuous"].replace(d_model=96, conv_width=96)
    less = build_model(config.replace(**{part: getattr(MODELS["l-g-dcnn"], part)}), seed=1).eval()
    at = np.linspace(0.49, 0.51, 201)
    steps = lambda net: np.abs(np.diff(predict(net, [f"Ti{x:.9f}O{1 - x:.9f}" for x in at])[:, 0])).max()
    assert steps(less) > 3 * steps(build_model(config, seed=1).eval())


def test_elements_are_read_by_electronegativity_and_shown_as_they_were_asked():
    net = NETS["l-g-dcnn-continuous"]
    packed = packed_batch("Cu3SiO2", "SiCu", "O2Ti")
    ranked, back = net.in_order(packed)
    line = lambda p: [[SYMBOLS[z] for z in row if z] for row in spread(p.numbers[:, None], p).squeeze(2)[p.order.argsort()].tolist()]
    assert line(packed) == [["Cu", "O", "Si"], ["Si", "Cu"], ["O", "Ti"]]   # by amount
    assert line(ranked) == [["Si", "Cu", "O"], ["Si", "Cu"], ["Ti", "O"]]   # Si and Cu both have 1.9
    assert torch.equal(ranked.numbers[back], packed.numbers) and torch.equal(ranked.fractions[back], packed.fractions)
    assert torch.allclose(dict(net.outputs(packed))["input"], net.embedder(packed), atol=1e-6)  # row by row


def test_sorting_again_after_the_jitter():
    packed = packed_batch("Ti0.5O0.5", "Li3Cu2O2", "AlNiFeCrCoMn", "Fe")
    noise = lambda again: jitter(packed, 0.5, torch.Generator().manual_seed(1), resort=again)
    plain, again = noise(False), noise(True)
    fractions = lambda p: spread(p.fractions[:, None], p).squeeze(2)
    assert (fractions(plain).diff(dim=1) > 0).any() and not (fractions(again).diff(dim=1) > 0).any()
    pairs = lambda p: sorted(zip(p.numbers.tolist(), p.fractions.tolist(), strict=True))
    assert pairs(plain) == pairs(again) and again.sizes == packed.sizes and torch.equal(again.order, packed.order)


def test_smooth_fractions_by_hand():
    encoding = SmoothFraction(3)
    with torch.no_grad():
        encoding.linear.weight.copy_(torch.eye(3))
        encoding.linear.bias.zero_()
    f = torch.tensor([1.0, 0.25])
    expected = torch.tensor([[2.0, 1.0, 0.0], [0.5, 0.5, math.log(0.25) / 2]])
    with torch.autocast("cpu", torch.bfloat16): assert torch.allclose(encoding(f), expected, atol=1e-6)  # in float32


def test_only_the_smooth_network_answers_a_small_change_with_a_small_one():
    def change(name):
        here, near, far = predict(build_model(MODELS[name]).eval(), ["Ti0.300O0.700", "Ti0.303O0.697", "Ti0.1O0.9"])[:, 0]
        return abs(near - here) / abs(far - here)
    assert change("l-g-dcnn-smooth") < 0.05 < change("l-g-dcnn")


def test_smooth_network_survives_padding():
    data = CompositionTensors(featurize(["NaCl", "Fe2O3", "SrTiO3"]), pad_to=4)
    mean, log_scale = build_model(MODELS["l-g-dcnn-smooth"])(data.pack(torch.arange(3)))
    assert mean.isfinite().all() and log_scale.isfinite().all()


def test_votes_weighed_by_hand():
    packed, net = packed_batch("LiFePO4", "Fe2O3"), NETS["l-g-dcnn-tuned"]
    *_, (_, x) = net.outputs(packed)
    votes = spread(net.head.linear(x) * packed.fractions[:, None], packed).sum(1)
    expected = votes[:, :1] * votes[:, 2:].sigmoid()
    assert torch.allclose(net(packed)[0], expected[packed.order.argsort()], atol=1e-6)


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.skips_last_conv])
def test_the_head_may_pass_the_last_convolution(name):
    config = MODELS[name].replace(d_model=96, conv_width=96)
    packed, nets = packed_batch("LiFePO4", "Fe", "NaCl", "Ba0.5K0.5Fe2As2"), [build_model(config) for _ in range(2)]
    nets[1].skips_last_conv = False
    for net in nets: sum(r.square().sum() for r in net(packed)).backward()
    for a, b in zip(*(net.parameters() for net in nets), strict=True): assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-5)
    assert torch.allclose(*(net(packed)[0] for net in nets), atol=1e-6)


def test_the_head_passes_nothing_else():
    merged, wide = build_model(MODELS["l-g-dcnn-v1"]), build_model(MODELS["dcnn"].replace(conv_width=16, n_targets=8))
    assert not any(net.skips_last_conv for net in (merged, wide, NETS["lstm"], NETS["l-g-dcnn-no-cnn"], NETS["roost-style"]))
    assert NETS["l-g-dcnn"].skips_last_conv


def test_shared_attention_is_one_module():
    names = [n for n, _ in NETS["l-g-dcnn"].named_parameters() if "attention" in n]
    assert len(names) == 4  # two linear maps, weight and bias each


@pytest.mark.parametrize("change, message", [
    ({"stages": ("lstn",)}, "did you mean 'lstm'"), ({"elements": "mat3vec"}, "did you mean 'mat2vec'"),
    ({"stages": ()}, "at least one stage"), ({"d_model": 30}, "multiple of 4"), ({"kernel": 4}, "odd"),
    ({"conv_width": 0}, "positive")])
def test_impossible_networks_are_refused(change, message):
    with pytest.raises(InputError, match=message): build_model(MODELS["lstm"].replace(**change))
