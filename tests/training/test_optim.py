"Optimisers, schedules and averages do what their papers say, step by step, by hand."
import math
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from lgdcnn.config import PROTOCOLS, InputError, TrainConfig
from lgdcnn.training.optim import (
    LAMB,
    SCHEDULES,
    Admission,
    Lookahead,
    learning_rate,
    make_average,
    make_lookahead,
    make_optimizer,
    set_rate,
    trust_ratios,
)

FAST, PAPER = PROTOCOLS["fast"], PROTOCOLS["paper"]


def lamb_by_hand(w, gradients, rate, decay=0.0, clamp=10.0):
    "Algorithm 2 of You et al. (2020), without bias correction, in float64."
    m, v = np.zeros_like(w), np.zeros_like(w)
    for g in gradients:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        r = m / (np.sqrt(v) + 1e-6) + decay * w
        length, step = np.linalg.norm(w), np.linalg.norm(r)
        w = w - rate * (min(length, clamp) / step if length > 0 and step > 0 else 1.0) * r
    return w


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lamb_is_its_paper(decay):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 4)), rng.normal(size=5) * 100, np.zeros(3), rng.normal(size=2)]
    gradients = [rng.normal(size=(5, *w.shape)) * 10.0 ** -k for k, w in enumerate(weights)]
    gradients[3][:] = 0  # a layer without gradient moves by its decay alone
    layers = [nn.Parameter(torch.tensor(w, dtype=torch.float32)) for w in weights]
    idle = nn.Parameter(torch.ones(2))  # and one that is not used does not move
    optimizer = LAMB([*layers, idle], lr=0.02, weight_decay=decay)
    for k in range(5):
        for p, g in zip(layers, gradients, strict=True): p.grad = torch.tensor(g[k], dtype=torch.float32)
        optimizer.step()
    for w, g, p in zip(weights, gradients, layers, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), lamb_by_hand(w, g, 0.02, decay), rtol=2e-5, atol=1e-7)
    assert torch.equal(idle.detach(), torch.ones(2))


def test_the_size_of_the_gradient_does_not_matter_to_lamb():
    def after(scale):
        p = nn.Parameter(torch.tensor([1.0, 2.0]))
        p.grad = scale * torch.tensor([3.0, -1.0])
        LAMB([p], lr=0.1).step()
        return p.detach()
    assert torch.allclose(after(1.0), after(1000.0), rtol=1e-4)


def test_trust_ratios():
    W = [torch.tensor([3.0, 4.0]), torch.tensor([60.0, 80.0]), torch.zeros(2), torch.ones(2)]
    r = [torch.tensor([0.0, 2.0]), torch.tensor([2.0, 0.0]), torch.ones(2), torch.zeros(2)]
    assert [t.item() for t in trust_ratios(W, r, clamp=10.0)] == [2.5, 5.0, 1.0, 1.0]


def test_the_optimiser_is_the_protocols():
    net = nn.Linear(2, 2)
    for protocol, kind, decay in ((FAST, torch.optim.AdamW, 1e-2), (PAPER, LAMB, 0.0)):
        optimizer = make_optimizer(net, protocol)
        assert type(optimizer) is kind
        assert [(len(g["params"]), g["weight_decay"], g["lr"]) for g in optimizer.param_groups] \
            == [(1, decay, protocol.learning_rate), (1, 0.0, protocol.learning_rate)]
        set_rate(optimizer, 0.5)
        assert {g["lr"] for g in optimizer.param_groups} == {0.5}


def test_lookahead_goes_half_the_way_back_every_k_steps():
    p = nn.Parameter(torch.tensor([1.0]))
    back, path = Lookahead([p], k=2, alpha=0.25), []
    for target in (2.0, 5.0, 7.0, 10.0):
        with torch.no_grad(): p.fill_(target)
        back.update()
        path.append(p.item())
    assert path == [2.0, 2.0, 7.0, 4.0]  # 1 + (5 - 1) / 4; then 2 + (10 - 2) / 4
    assert make_lookahead(nn.Linear(1, 1), FAST) is None
    assert (make_lookahead(nn.Linear(1, 1), PAPER).k, make_lookahead(nn.Linear(1, 1), PAPER).alpha) == (6, 0.5)


@pytest.mark.parametrize("warmup, n_steps", [(0.3, 100), (0.0, 17), (0.25, 3), (0.9, 1234)])
def test_one_cycle_is_torchs(warmup, n_steps):
    config = FAST.replace(warmup=warmup)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=n_steps, pct_start=warmup)
    for step in range(n_steps):
        assert learning_rate(step, n_steps, config) == theirs.get_last_lr()[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.step(), theirs.step()


def test_the_papers_triangle():
    per_epoch = 7
    rates = [learning_rate(t, 300 * per_epoch, PAPER) for t in range(300 * per_epoch)]
    assert (min(rates), max(rates)) == (1e-4, 6e-3)
    assert [t for t, r in enumerate(rates) if r == 6e-3] == [per_epoch * (10 + 20 * c) for c in range(15)]
    assert np.diff(rates[:11 * per_epoch])[:-per_epoch] == pytest.approx(5.9e-3 / (10 * per_epoch))
    assert rates[:20 * per_epoch] == pytest.approx(rates[20 * per_epoch:40 * per_epoch])


def test_a_constant_rate_is_constant():
    assert {learning_rate(t, 50, FAST.replace(schedule="constant")) for t in range(50)} == {1e-3}


def average_of(values, config, n_steps):
    net = nn.Linear(1, 1, bias=False)
    average = make_average(net, config, n_steps)
    for v in values:
        nn.init.constant_(net.weight, v)
        average.update_parameters(net)
    return average.module.weight.item()


def test_averages_by_hand():
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    assert average_of(values, PAPER, 40) == pytest.approx(np.mean(values))
    for age, n_steps in ((0.05, 200), (0.5, 10)):  # the mean age is ten, then five steps
        mean, decay = values[0], 1 - 1 / (age * n_steps)
        for v in values[1:]: mean = decay * mean + (1 - decay) * v
        assert average_of(values, FAST.replace(ema_age=age), n_steps) == pytest.approx(mean)
    assert make_average(nn.Linear(1, 1), FAST.replace(average="none"), 10) is None


def test_refusals_are_counted_over_the_run():
    door = Admission(patience=5)
    errors = [0.9, 1.0, 0.8, 0.8, math.nan, 0.7, 0.75, 0.71]
    assert [door.admits(e) for e in errors] == [True, False, True, False, False, True, False, False]
    assert door.exhausted and door.lowest == 0.7
    open_door = Admission(patience=1)
    assert all(open_door.admits(None) for _ in range(9)) and not open_door.exhausted


def test_the_papers_numbers():
    assert PAPER.to_dict() == {
        "name": "paper", "epochs": 300, "batch_size": 128, "learning_rate": 6e-3, "weight_decay": 0.0, "warmup": 0.3,
        "grad_clip": 0.0, "loss": "laplace", "jitter": 0.02, "average": "swa", "select": "last", "optimizer": "lamb",
        "lookahead": 6, "schedule": "triangular", "lowest_rate": 1e-4, "cycle_epochs": 20, "ema_age": 0.05,
        "average_every": 20, "patience": 5, "batch_rule": "paper", "batches": "random", "resort": False}
    for n in (1, 100, 3428, 6027, 312_944):
        assert PAPER.rows_per_batch(n) == int(np.clip(2.0 ** np.round(np.log2(n) - 4), 128, 4096))
    assert (PAPER.rows_per_batch(3428), FAST.rows_per_batch(3428)) == (256, 128)


@pytest.mark.parametrize("bad", [
    {"optimizer": "sgd"}, {"schedule": "step"}, {"average": "mean"}, {"batch_rule": "big"}, {"lookahead": -1}, {"lookahead": 2.5},
    {"ema_age": 0}, {"ema_age": 1.5}, {"lowest_rate": 1.0}, {"cycle_epochs": 0}, {"average_every": 2.5}, {"patience": 0},
    {"average": "swa", "select": "best"}])
def test_impossible_protocols_are_refused(bad):
    with pytest.raises(InputError, match=next(reversed(bad))): TrainConfig(**bad)


def test_every_schedule_of_the_configuration_exists():
    for name in SCHEDULES: assert TrainConfig(schedule=name).schedule == name
    with pytest.raises(InputError, match="it must be") as said: TrainConfig(schedule="no such")
    assert set(re.findall("'([a-z-]+)'", str(said.value).split("must be")[1])) == set(SCHEDULES)
