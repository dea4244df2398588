"The loop learns, repeats itself exactly, and says so when it cannot go on."
import numpy as np
import pytest
import torch

from lgdcnn.composition import featurize
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.networks.layers import CompositionTensors
from lgdcnn.networks.models import build_model
from lgdcnn.training import loop as training
from lgdcnn.training.device import resolve_device, resolve_precision
from lgdcnn.training.loop import Rows, TrainingError, epoch_batches, fit_network, mean_absolute_error, predict
from lgdcnn.training.losses import LOSSES
from lgdcnn.training.optim import learning_rate

SMALL = MODELS["l-g-dcnn"].replace(d_model=64, conv_width=64)


@pytest.fixture(scope="module")
def few(embedded):
    formulas, y = (a[:32] for a in embedded.part("train"))
    z = torch.as_tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    return Rows(CompositionTensors(featurize(formulas)), z)


def weights(seed, few, **changes):
    net = build_model(SMALL, seed)
    fit_network(net, few, PROTOCOLS["fast"].replace(epochs=3, batch_size=8, **changes), seed)
    return torch.nn.utils.parameters_to_vector(net.parameters())


def test_same_seed_same_weights_to_the_last_bit(few):
    torch.manual_seed(5)
    first = weights(1, few)
    torch.manual_seed(6)  # the caller's random state has no say
    assert torch.equal(first, weights(1, few))
    assert not torch.equal(first, weights(2, few))


def test_training_leaves_the_callers_random_state(few):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    weights(1, few)
    assert torch.equal(before, torch.get_rng_state())


def test_sorting_again_after_the_jitter_reaches_the_training(few):
    assert not torch.equal(weights(1, few), weights(1, few, resort=True))
    assert torch.equal(weights(1, few, jitter=0.0), weights(1, few, jitter=0.0, resort=True))  # nothing was moved


def test_averaging_and_jitter_change_the_weights(few):
    base = weights(1, few)
    assert not torch.equal(base, weights(1, few, average="none"))
    assert not torch.equal(base, weights(1, few, jitter=0.0))


def test_the_best_epoch_is_what_comes_back(few):
    config = PROTOCOLS["fast-laplace"].replace(epochs=15, batch_size=8, learning_rate=2e-2, average="none", select="best", grad_clip=0.0)
    net = build_model(SMALL)
    history = fit_network(net, few, config, validation=few)
    errors = [line["val_mae"] for line in history]
    assert mean_absolute_error(net, few) == pytest.approx(min(errors), rel=1e-5)
    assert min(errors) < errors[-1], "the learning rate is meant to make the last epoch not the best"


def test_every_step_has_its_own_learning_rate(few, monkeypatch):
    config, rates, set_rate = PROTOCOLS["fast"].replace(epochs=3, batch_size=8), [], training.set_rate
    def stand_in(optimizer, rate):
        set_rate(optimizer, rate)
        rates.append({group["lr"] for group in optimizer.param_groups})
    monkeypatch.setattr(training, "set_rate", stand_in)
    history = fit_network(build_model(SMALL), few, config)
    assert rates == [{learning_rate(t, 12, config)} for t in range(12)]
    assert [line["learning_rate"] for line in history] == [learning_rate(t, 12, config) for t in (0, 4, 8)]


def quick(**changes):
    return PROTOCOLS["paper"].replace(**{"epochs": 8, "cycle_epochs": 2, "average_every": 2, "patience": 1, **changes})


def test_refused_weights_end_a_run_and_stay_out(few, monkeypatch):
    "The validation errors are made up: the third candidate is refused, and with it the run ends after epoch 6 of 8."
    seen, errors = [], iter([0.1, 0.5, 0.4, 0.45])  # the first is of epoch 1, no candidate
    def fake(network, rows, loss, precision):
        if network is not net: return -1.0  # the average's own error decides nothing
        seen.append(torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone())
        return next(errors)
    monkeypatch.setattr(training, "mean_absolute_error", fake)
    net = build_model(SMALL, 1)
    history = fit_network(net, few, quick(), 1, validation=few)
    assert [(line["epoch"], line["averaged"]) for line in history if "averaged" in line] == [(2, True), (4, True), (6, False)]
    assert len(history) == 6
    assert torch.allclose(torch.nn.utils.parameters_to_vector(net.parameters()), (seen[1] + seen[2]) / 2, atol=1e-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_validation_is_computed_as_the_training_is(few, precision):
    net = build_model(SMALL, 1)
    last = fit_network(net, few, quick(), 1, validation=few, precision=precision)[-1]["val_mae"]
    errors = {p: mean_absolute_error(net, few, precision=p) for p in ("fp32", "bf16")}
    assert last == errors[precision] and errors["fp32"] != errors["bf16"]


def test_without_validation_rows_every_candidate_enters(few):
    history = fit_network(build_model(SMALL, 1), few, quick(patience=1), 1)
    assert [line.get("averaged") for line in history] == [None, True] * 4


def test_validation_rows_do_not_enter_training(few):
    other = Rows(few.data, few.z.flip(0))
    net = build_model(SMALL, 1)
    fit_network(net, few, PROTOCOLS["fast"].replace(epochs=3, batch_size=8), 1, validation=other)
    assert torch.equal(torch.nn.utils.parameters_to_vector(net.parameters()), weights(1, few))


def test_a_lost_loss_stops(few):
    with pytest.raises(TrainingError, match="became (nan|inf|-inf) in epoch"):
        fit_network(build_model(SMALL), Rows(few.data, few.z + float("inf")), PROTOCOLS["fast"])


def test_every_row_once_an_epoch():
    batches = epoch_batches(1000, 128, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(1000))
    assert {len(b) for b in batches} == {125}


def test_prediction_does_not_depend_on_the_batch_size(few):
    net = build_model(SMALL)
    a, b = predict(net, few.data), predict(net, few.data, batch_size=5)
    assert torch.allclose(a[0], b[0], atol=1e-6) and torch.allclose(a[1], b[1], atol=1e-6)


def test_devices_and_precisions(monkeypatch):
    cpu = resolve_device("cpu")
    for units, expected in (({"amx_bf16": True}, "bf16"), ({"amx_bf16": False, "avx512_bf16": True}, "bf16"),
                            ({"avx512_f": True, "avx512_bf16": False}, "fp32"), ({}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units, raising=False)
        assert resolve_precision("auto", cpu) == expected
    for bad in ("warp", "cuda:99"):
        with pytest.raises(InputError, match=bad): resolve_device(bad)
    with pytest.raises(InputError, match="fp8"): resolve_precision("fp8", cpu)


def test_defaults_are_held_fast():
    "Stored results name configurations by what differs from the defaults, so these must never change."
    from lgdcnn.config import ModelConfig, TrainConfig
    assert ModelConfig().to_dict() == {
        "name": "l-g-dcnn", "stages": ["lstm", "attention", "gru", "attention", "dcnn"], "elements": "mat2vec",
        "d_model": 512, "resolution": 2000, "fraction_base": 50.0, "n_units": 3, "kernel": 3, "conv_width": 512,
        "add": [], "channel_pool": 1, "n_targets": 1, "dropout": 0.0, "fraction": "sinusoid", "pooling": "mean", "n_extra": 0,
        "order": "amount", "pool_slides": False}
    assert TrainConfig().to_dict() == {
        "name": "fast", "epochs": 60, "batch_size": 128, "learning_rate": 1e-3, "weight_decay": 1e-2, "warmup": 0.3,
        "grad_clip": 1.0, "loss": "laplace", "jitter": 0.02, "average": "ema", "select": "last", "optimizer": "adamw",
        "lookahead": 0, "schedule": "one-cycle", "lowest_rate": 0.0, "cycle_epochs": 20, "ema_age": 0.05,
        "average_every": 20, "patience": 5, "batch_rule": "fixed", "batches": "random", "resort": False}
    assert PROTOCOLS["fast-laplace"].digest() == TrainConfig().digest() == "44136fa355"
    assert PROTOCOLS["fast"].replace(loss="laplace") == TrainConfig(), "the two differ by the loss alone"


def test_digests_of_published_configurations_stand():
    "Stored rows and saved models name configurations by these; V1 alone is another network than it was."
    assert {name: MODELS[name].digest() for name in DIGESTS} == DIGESTS
    assert {name: PROTOCOLS[name].digest() for name in PROTOCOL_DIGESTS} == PROTOCOL_DIGESTS


DIGESTS = {"l-g-dcnn": "44136fa355", "lstm": "d71ac1a0fb", "gru": "7a5cce192b", "dcnn": "ade7db9e1b", "dcnn-k1": "c817981df6",
           "ldcnn": "cd2186323b", "l-att-res-dcnn": "1dc5f42bd8", "l-g-dcnn-v1": "aa7e6722d7",
           "l-g-dcnn-onehot": "dee557f1e1", "l-g-dcnn-2-units": "cbaa035853", "l-g-dcnn-6-units": "b6e76ded4f",
           "l-g-dcnn-no-gru": "97a279bc61", "l-g-dcnn-no-attention": "6760ab1adc", "l-g-dcnn-no-cnn": "d011fa0222",
           "l-g-dcnn-smooth": "40f6403436", "l-g-dcnn-tuned": "5f36b38ca4", "l-g-dcnn-continuous": "8648b0e1a5",
           "crabnet-style": "a1a72e0bad", "roost-style": "d219195c4e"}
PROTOCOL_DIGESTS = {"fast": "1e28b6b370", "brief": "f014e0c212", "fast-laplace": "44136fa355", "brief-laplace": "2d800dea55",
                    "paper": "92ffe81cbe"}


def test_what_earlier_versions_do_not_know_stands_in_files_only_where_it_matters():
    main, other = MODELS["l-g-dcnn"], MODELS["l-g-dcnn-continuous"]
    assert not {"n_extra", "order", "pool_slides"} & set(main.to_file()) and other.to_file()["order"] == "electronegativity"
    assert type(main).from_dict(other.to_file()) == other and type(main).from_dict(main.to_file()) == main
    fast = PROTOCOLS["fast"]
    assert "resort" not in fast.to_file() and fast.replace(resort=True).to_file()["resort"] is True
    assert fast.replace(resort=True).digest() != fast.digest()


def test_stored_scores_name_todays_configurations(root):
    import pandas as pd
    scores = pd.read_csv(root / "results" / "demo" / "scores.csv").dropna(subset="config")
    assert len(scores) and all(MODELS[r.model].digest() == r.config for r in scores.itertuples())
    assert set(scores.protocol) == {PROTOCOLS["fast"].replace(epochs=int(scores.epochs.iloc[0])).digest()}


def test_losses_by_hand():
    z, m, s = (torch.tensor([[v]]) for v in (1.0, 0.5, 0.2))
    assert LOSSES["laplace"](z, m, s).item() == pytest.approx(2 ** 0.5 * 0.5 * np.exp(-0.2) + 0.2)
    assert LOSSES["l1"](z, m, s).item() == pytest.approx(0.5)
