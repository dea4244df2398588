"Stratified batches hold the set's mixture; a step by replay is the step, or it is not taken."
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgdcnn.composition import featurize
from lgdcnn.config import MODELS, PROTOCOLS, InputError, TrainConfig
from lgdcnn.networks.layers import CompositionTensors, jitter
from lgdcnn.networks.models import build_model
from lgdcnn.training import loop as training
from lgdcnn.training import one_shape
from lgdcnn.training.batches import batch_lengths, epoch_batches, mixture, shape_of, stratified_batches
from lgdcnn.training.loop import Rows, Run, fit_network

SMALL = MODELS["l-g-dcnn"].replace(d_model=32, conv_width=32)
STRATIFIED = PROTOCOLS["fast"].replace(batches="stratified", batch_size=6, epochs=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=80), st.integers(1, 40), st.integers(0, 3))
def test_every_row_once_and_every_batch_alike(counts, batch_size, seed):
    counts = torch.tensor(counts)
    batches = stratified_batches(counts, batch_size, torch.Generator().manual_seed(seed))
    assert sorted(torch.cat(batches).tolist()) == list(range(len(counts)))
    lengths = [len(b) for b in batches]
    assert lengths == batch_lengths(counts, batch_size, "stratified") and max(lengths) < 1.5 * batch_size + 1
    shape, alike = shape_of(counts, batch_size).tolist(), mixture(counts, batch_size)[0]
    if shape: assert all(counts[b].tolist() == shape for b in batches[:alike - 1]), "the same layout"
    assert len(batches) == 1 or 2 * min(lengths) >= len(shape), "no step for a handful of rows"
    assert batch_lengths(counts, batch_size, "random") == [len(b) for b in epoch_batches(len(counts), batch_size, torch.Generator())]


def test_rows_are_drawn_anew_each_time_and_the_seed_decides():
    counts = torch.tensor([2] * 30 + [3] * 60)
    draw = lambda g: stratified_batches(counts, 10, g)
    g = torch.Generator().manual_seed(1)
    first, second = draw(g), draw(g)
    assert not torch.equal(first[0], second[0]) and torch.equal(first[0], draw(torch.Generator().manual_seed(1))[0])


@pytest.fixture(scope="module")
def salts():
    formulas = [a + b for a in ("Li", "Na", "K", "Rb", "Cs", "Ag", "Tl") for b in ("Cl", "Br", "Cl2O", "Br3O2N")]
    return Rows(CompositionTensors(featurize(formulas)), torch.linspace(-1, 1, len(formulas))[:, None])


def weights(salts, config=STRATIFIED, seed=1, **options):
    net = build_model(SMALL, seed)
    history = fit_network(net, salts, config, seed, **options)
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach(), history


def test_the_remainder_counts_by_its_rows(salts):
    "28 rows: 14, 7 and 7 of each count; five batches of 2 + 1 + 1, and 8 rows left, in two batches of 4."
    run = Run(build_model(SMALL), salts, STRATIFIED)
    assert run.lengths == [4] * 5 + [4, 4] and run.n_batches == 7
    run = Run(build_model(SMALL), salts, STRATIFIED.replace(batch_size=16))
    assert run.lengths == [7 + 3 + 3, 7 + 3 + 3 + 2], "too few for a batch of their own"
    first, last = run.draw()
    assert (run.share(first), run.share(last)) == (1, 15 / 13)
    run.config, state = run.config.replace(jitter=0.0), run.generator.get_state()
    loss = run.gradient(last, run.share(last)).item()
    size = torch.stack([p.grad.norm() for p in run.network.parameters()]).norm()
    run.config = run.config.replace(batches="random")  # the same rows as a batch among others
    assert run.gradient(last, run.share(last)).item() * 15 / 13 == pytest.approx(loss, rel=1e-5)
    assert torch.stack([p.grad.norm() for p in run.network.parameters()]).norm() * 15 / 13 == pytest.approx(size.item(), rel=1e-4)
    assert torch.equal(state, run.generator.get_state())


def test_the_loss_of_an_epoch_is_the_mean_over_rows(salts):
    config = STRATIFIED.replace(batch_size=16, jitter=0.0, learning_rate=1e-12, epochs=1, weight_decay=0.0)
    _, history = weights(salts, config)
    m, s = training.predict(build_model(SMALL, 1), salts.data)
    expected = training.LOSSES["beta-laplace"](salts.z, m, s).item()
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_stratified_run_goes_on_from_its_checkpoint(salts, tmp_path, monkeypatch):
    plain, _ = weights(salts)
    take, left = Run.take_step, iter(range(9))
    def stand_in(run, index):
        if next(left, None) is None: raise KeyboardInterrupt
        take(run, index)
    with monkeypatch.context() as m:
        m.setattr(Run, "take_step", stand_in)
        with pytest.raises(KeyboardInterrupt): weights(salts, checkpoint=tmp_path / "run.npz")
    assert torch.equal(weights(salts, checkpoint=tmp_path / "run.npz")[0], plain)


@pytest.mark.parametrize("changes", [{}, {"average": "none"}, {"jitter": 0.0, "grad_clip": 0.0}, {"resort": True}])
def test_replayed_steps_are_the_steps(salts, monkeypatch, changes):
    config = STRATIFIED.replace(**changes)
    plain, history = weights(salts, config)
    recorded = []
    monkeypatch.setitem(one_shape.RECORDERS, "cpu", (lambda work: work(), lambda work: recorded.append(work) or work))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replayed, again = weights(salts, config)
    assert len(recorded) == 1 and recorded[0].__self__.run.one_shape.agreed == 3
    start = torch.nn.utils.parameters_to_vector(build_model(SMALL, 1).parameters())
    assert (plain - replayed).norm() < 1e-3 * (plain - start).norm()  # a learning rate of float32 differs by rounding
    assert [line["loss"] for line in history] == pytest.approx([line["loss"] for line in again], abs=1e-4)


def test_the_layout_is_handed_on(salts):
    "What a record must not compute from the host is there already, whatever is done to the batch."
    packed = salts.data.pack(torch.arange(8))
    before = packed.before
    noisy = jitter(packed, 0.02, torch.Generator().manual_seed(0), resort=True)
    read = build_model(SMALL.replace(order="electronegativity")).in_order(noisy)[0]
    assert vars(noisy)["before"] is before and vars(read)["before"] is before


def test_layers_that_never_ask_the_host_compute_the_same(salts):
    net, packed = build_model(SMALL), salts.data.pack(torch.arange(16))
    def gradient(written_out):
        for m in net.modules():
            if hasattr(m, "written_out"): m.written_out = written_out
        net.zero_grad()
        net(packed)[0].sum().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    assert sum(hasattr(m, "written_out") for m in net.modules()) == 3, "embedder, lstm, gru"
    assert torch.allclose(gradient(False), gradient(True), atol=1e-6)


def wrong_noise(work):
    def replay():
        work.__self__.noise.mul_(40)
        work()
    return replay


def old_rate(work):
    def replay():
        work.__self__.rate.fill_(1e-6)
        work()
    return replay


def does_nothing(work): return lambda: None


def refuses(work): raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("record", [wrong_noise, old_rate, does_nothing, refuses])
def test_a_wrong_record_is_found_out_and_leaves_no_trace(salts, monkeypatch, record):
    plain, _ = weights(salts)
    monkeypatch.setitem(one_shape.RECORDERS, "cpu", (lambda work: work(), record))
    with pytest.warns(UserWarning, match="steps are taken kernel by kernel: (the recorded step differs|it cannot be recorded)"):
        found, _ = weights(salts)
    assert torch.equal(found, plain)


def test_only_runs_that_never_look_at_the_host_are_recorded(salts, monkeypatch):
    monkeypatch.setitem(one_shape.RECORDERS, "cpu", (None, None))
    make = lambda **changes: Run(build_model(SMALL), salts, STRATIFIED.replace(**changes)).one_shape
    assert make() and not make(batches="random") and not make(optimizer="lamb") and not make(lookahead=6)
    assert not make(batch_size=28), "one batch an epoch has nothing to replay"
    monkeypatch.delitem(one_shape.RECORDERS, "cpu")
    assert make() is None


def test_the_new_field_leaves_old_names_and_refuses_others():
    assert TrainConfig().digest() == "44136fa355" and "batches" in TrainConfig().to_dict()
    assert TrainConfig(batches="stratified").digest() != TrainConfig().digest()
    old = {k: v for k, v in TrainConfig().to_dict().items() if k != "batches"}
    assert TrainConfig.from_dict(old) == TrainConfig()
    with pytest.raises(InputError, match="batches = 'sorted' is not possible: it must be 'random' or 'stratified'"):
        TrainConfig(batches="sorted")
