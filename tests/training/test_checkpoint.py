"A run that was stopped, anywhere and however, ends with the very weights of one that was not."
import io
import json
import os
import signal
import warnings

import numpy as np
import pytest
import torch

from lgdcnn.composition import featurize
from lgdcnn.config import MODELS, PROTOCOLS, InputError
from lgdcnn.networks.layers import CompositionTensors
from lgdcnn.networks.models import build_model
from lgdcnn.training import loop as training
from lgdcnn.training.checkpoint import Interrupt, fingerprint, flatten, nest, read_checkpoint, write_checkpoint
from lgdcnn.training.loop import Rows, Run, TrainingError, fit_network

TINY = MODELS["l-g-dcnn"].replace(d_model=16, conv_width=16, n_units=1)
FAST = PROTOCOLS["fast"].replace(epochs=4, batch_size=8)
RUNS = {
    "fast": FAST,
    "best": FAST.replace(average="none", select="best", learning_rate=2e-2),
    "paper": PROTOCOLS["paper"].replace(epochs=4, batch_rule="fixed", batch_size=8, cycle_epochs=2, average_every=1, lookahead=3),
}  # sixteen steps each


class Killed(Exception):
    "Stands for a power cut."


@pytest.fixture(scope="module")
def sides(embedded):
    formulas, y = (a[:42] for a in embedded.part("train"))
    z = torch.as_tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    return tuple(Rows(CompositionTensors(featurize(formulas[part])), z[part]) for part in (slice(32), slice(32, None)))


@pytest.fixture(autouse=True)
def ctrl_c():
    "A program started in the background may ignore Ctrl-C; these tests do not."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def fit(sides, config, path=None, seconds=0.0, seed=1, **kw):
    net = build_model(TINY, seed)
    history = fit_network(net, sides[0], config, seed, sides[1], checkpoint=path, checkpoint_seconds=seconds, **kw)
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in history]
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach(), lines


def stop(monkeypatch, step, how):
    "Let `how` happen once, in place of step number `step` from here."
    take, count = Run.take_step, iter(range(step))
    def stand_in(run, index):
        if next(count, None) is None: how()
        take(run, index)
    monkeypatch.setattr(Run, "take_step", stand_in)


def kill(): raise Killed
def press(): os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_any_steps_ends_the_same(name, sides, tmp_path, monkeypatch):
    expected, history = fit(sides, RUNS[name])
    rng, left = np.random.default_rng(len(name)), 16
    for _ in range(4):  # killed again and again; every step had been saved
        step = int(rng.integers(0, 6))
        if step >= left: break
        with monkeypatch.context() as m:
            stop(m, step, kill)
            with pytest.raises(Killed): fit(sides, RUNS[name], tmp_path / "run.npz")
        left -= step
    weights, lines = fit(sides, RUNS[name], tmp_path / "run.npz")
    assert torch.equal(weights, expected) and lines == history
    assert not torch.equal(weights, fit(sides, RUNS[name], seed=2)[0])


@pytest.mark.parametrize("name", RUNS)
def test_ctrl_c_saves_and_a_later_kill_falls_back_to_it(name, sides, tmp_path, monkeypatch):
    expected, history = fit(sides, RUNS[name])
    path = tmp_path / "run.npz"
    for step, how, error in ((6, press, KeyboardInterrupt), (4, kill, Killed)):
        with monkeypatch.context() as m:
            stop(m, step, how)
            with pytest.raises(error): fit(sides, RUNS[name], path, seconds=1e9)
    assert [read_checkpoint(path)[1][k] for k in ("epoch", "step")] == [1, 3], "the seventh step came to its end"
    weights, lines = fit(sides, RUNS[name], path, seconds=1e9)
    assert torch.equal(weights, expected) and lines == history


def test_a_run_killed_while_it_looks_at_the_validation_rows_ends_the_same(sides, tmp_path, monkeypatch):
    expected, history = fit(sides, RUNS["paper"])
    with monkeypatch.context() as m:
        m.setattr(training, "mean_absolute_error", lambda *_: kill())
        with pytest.raises(Killed): fit(sides, RUNS["paper"], tmp_path / "run.npz")
    assert read_checkpoint(tmp_path / "run.npz")[1]["step"] == 4
    weights, lines = fit(sides, RUNS["paper"], tmp_path / "run.npz")
    assert torch.equal(weights, expected) and lines == history


def test_the_best_weights_so_far_are_not_forgotten(sides, tmp_path, monkeypatch):
    def errors(*values):
        values = iter(values)
        monkeypatch.setattr(training, "mean_absolute_error", lambda *_: next(values))
    errors(0.3, 0.1, 0.5, 0.4)
    expected, _ = fit(sides, RUNS["best"])
    errors(0.3, 0.1, 0.5)
    with monkeypatch.context() as m:
        stop(m, 14, kill)  # in the fourth epoch; the second was the best
        with pytest.raises(Killed): fit(sides, RUNS["best"], tmp_path / "run.npz")
    errors(0.4)
    assert torch.equal(fit(sides, RUNS["best"], tmp_path / "run.npz")[0], expected)


def test_an_interrupt_from_the_callers_own_code_saves_too(sides, tmp_path):
    expected, history = fit(sides, FAST)
    def on_epoch(line):
        if line["epoch"] == 3: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(sides, FAST, tmp_path / "run.npz", seconds=1e9, on_epoch=on_epoch)
    epochs = []
    weights, lines = fit(sides, FAST, tmp_path / "run.npz", on_epoch=lambda line: epochs.append(line["epoch"]))
    assert torch.equal(weights, expected) and lines == history and epochs == [4]


def test_a_finished_run_gives_its_weights_at_once(sides, tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    first = fit(sides, RUNS["paper"], path, seconds=1e9)
    monkeypatch.setattr(Run, "take_step", lambda *_: kill())
    again = fit(sides, RUNS["paper"], path)
    assert torch.equal(first[0], again[0]) and first[1] == again[1]
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_checkpoint_of_before_goes_on(sides, root, tmp_path):
    "Put aside by the code of 2026-11-27, before `Run` was a class of its own, at step 6 of 16."
    path = tmp_path / "run.npz"
    path.write_bytes((root / "tests/files/checkpoint1.npz").read_bytes())
    nets = [build_model(TINY.replace(d_model=4, conv_width=4), 1) for _ in range(2)]
    whole, resumed = (fit_network(net, sides[0], RUNS["paper"], 1, sides[1], checkpoint=file)
                      for net, file in zip(nets, (None, path), strict=True))
    facts = read_checkpoint(path)[1]
    assert (facts["epoch"], len(resumed)) == (4, 4)
    assert [line["loss"] for line in resumed] == pytest.approx([line["loss"] for line in whole], rel=1e-4)
    weights = [torch.nn.utils.parameters_to_vector(net.parameters()) for net in nets]
    close = torch.isclose(*weights, atol=1e-5).float().mean()  # the first steps were taken on another machine: where a gradient is
    assert close > 0.99, "a run of before goes on elsewhere"    # next to zero, its last bit has steered a step


def test_a_file_changes_nothing(sides, tmp_path):
    assert torch.equal(fit(sides, FAST)[0], fit(sides, FAST, tmp_path / "run.npz")[0])


def test_another_runs_checkpoint_is_refused(sides, tmp_path):
    path = tmp_path / "run.npz"
    fit(sides, FAST, path, seconds=1e9)
    before = path.read_bytes()
    train, val = sides
    others = {
        "protocol": ((train, val), FAST.replace(epochs=5), {}),
        "seed, initial weights": ((train, val), FAST, {"seed": 2}),
        "training rows": ((Rows(train.data, train.z + 1e-3), val), FAST, {}),
        "validation rows": ((train, None), FAST, {}),
        "precision": ((train, val), FAST, {"precision": "bf16"}),
    }
    for what, (other, config, kw) in others.items():
        with pytest.raises(InputError, match=f"belongs to another run, with other {what}: ") as e: fit(other, config, path, **kw)
        assert "\n" not in str(e.value)
    with pytest.raises(InputError, match="with other network"):
        fit_network(build_model(TINY.replace(resolution=5000), 1), train, FAST, 1, val, checkpoint=path)
    assert path.read_bytes() == before
    assert fit(sides, FAST.replace(name="mine"), path)[1], "a name is no difference"


def test_where_nothing_can_be_written_nothing_begins(sides, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "take_step", lambda *_: kill())
    with pytest.raises(InputError, match="there is no folder"): fit(sides, FAST, tmp_path / "no" / "run.npz")
    with pytest.raises(InputError, match="is a folder"): fit(sides, FAST, tmp_path)


def test_trees_come_back_as_they_were(tmp_path):
    tree = {"a": {"x": torch.tensor(3), "y": {"0": torch.rand(2, 3)}}, "b": torch.zeros(0, dtype=torch.uint8), "c": {}}
    read, facts = read_checkpoint(write_checkpoint(tmp_path / "t.npz", tree, {"best": float("inf"), "x": 0.1 + 0.2}))
    flat, back = flatten(tree), flatten(read)
    assert list(back) == ["a/x", "a/y/0", "b"] and all(torch.equal(flat[k], back[k]) for k in flat)
    assert all(flat[k].dtype == back[k].dtype for k in flat) and facts == {"best": float("inf"), "x": 0.1 + 0.2}
    assert flatten(nest(flat)) == flat


def spoiled(kind, whole):
    if kind == "cut short": return whole[:-200]
    if kind == "a text": return b"epoch 3"
    if kind == "nothing": return b""
    buffer = io.BytesIO()
    if kind == "pickled": np.savez(buffer, contents=np.array([{"format": 1}], dtype=object))
    elif kind == "other format": np.savez(buffer, contents=np.frombuffer(json.dumps({"format": "x"}).encode(), dtype=np.uint8))
    else: np.savez(buffer, x=np.zeros(2))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["cut short", "a text", "nothing", "pickled", "other format", "no contents"])
def test_damaged_files_are_refused_in_one_line(kind, tmp_path):
    path = write_checkpoint(tmp_path / "t.npz", {"x": torch.rand(100)}, {})
    path.write_bytes(spoiled(kind, path.read_bytes()))
    with pytest.raises(InputError, match="is no checkpoint of this version, or damaged") as e: read_checkpoint(path)
    assert "\n" not in str(e.value)


def test_fingerprints_see_value_type_and_shape():
    x = torch.rand(6)
    marks = {fingerprint(t) for t in ([x], [x + 1e-6], [x.double()], [x.view(2, 3)], [x[:3], x[3:]])}
    assert len(marks) == 5 and fingerprint([x.clone()]) in marks


def test_ctrl_c_is_noticed_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        press()
        assert interrupt.pressed
        with pytest.raises(KeyboardInterrupt): press()
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupt() as interrupt: press()
    assert not interrupt.pressed, "ignored before, ignored inside"


def little_memory(monkeypatch, most, error=torch.OutOfMemoryError):
    "A device on which the network can look at `most` rows at a time."
    loss = Run.loss
    def stand_in(run, packed, *rest):
        if len(packed.order) > most: raise error("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")
        return loss(run, packed, *rest)
    monkeypatch.setattr(Run, "loss", stand_in)


def gradient(sides, n, jitter=0.0, parts=1):
    run = Run(build_model(TINY, 1), sides[0], FAST.replace(jitter=jitter), 1)
    run.parts = parts
    loss = run.gradient(torch.arange(n), run.share(torch.arange(n)))
    return torch.cat([loss[None], *(p.grad.flatten() for p in run.network.parameters())]), run.parts


@pytest.mark.filterwarnings("ignore:out of memory")  # more than one of them
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("n, most, parts", [(32, 16, 2), (7, 2, 4), (3, 1, 3)])
def test_a_batch_in_parts_has_the_same_gradient(sides, monkeypatch, n, most, parts, error):
    expected, _ = gradient(sides, n)
    little_memory(monkeypatch, most, error)
    with pytest.warns(UserWarning, match=f"batches of {n} rows are computed in {parts} parts from now on"):
        found, used = gradient(sides, n)
    assert used == parts and torch.allclose(found, expected, atol=1e-6)


def test_parts_count_by_their_known_targets_and_weights(sides):
    rows = sides[0]
    z = rows.z.clone()
    z[:20:3] = float("nan")  # many holes in the first part, few in the second
    uneven = (Rows(rows.data, z, torch.linspace(0.1, 2, len(z))[:, None]), None)
    assert torch.allclose(gradient(uneven, 31, parts=2)[0], gradient(uneven, 31)[0], atol=1e-6)


def test_the_attempt_that_failed_leaves_no_trace_in_the_noise(sides, monkeypatch):
    expected, _ = gradient(sides, 32, jitter=0.02, parts=2)
    little_memory(monkeypatch, 16)
    with pytest.warns(UserWarning): assert torch.equal(gradient(sides, 32, jitter=0.02)[0], expected)


def test_little_memory_is_noticed_once_and_remembered(sides, tmp_path, monkeypatch):
    little_memory(monkeypatch, 3)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        with monkeypatch.context() as m:
            stop(m, 6, kill)
            with pytest.raises(Killed): fit(sides, FAST, tmp_path / "run.npz")
        assert len(notes) == 2, "for four parts of two rows each"
        fit(sides, FAST, tmp_path / "run.npz")
    assert len(notes) == 2, "a run taken up knows it"


def test_without_memory_for_one_row_a_run_ends(sides, monkeypatch):
    little_memory(monkeypatch, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TrainingError, match="not enough memory for a single row"): fit(sides, FAST)


def test_the_hosts_own_words_are_understood_and_no_others():
    with pytest.raises(RuntimeError) as e: torch.empty(2 ** 50)
    assert training.out_of_memory(e.value)
    with pytest.raises(RuntimeError) as e: torch.zeros(2) @ torch.zeros(3)
    assert not training.out_of_memory(e.value)


def test_a_turned_bit_is_refused_or_changes_nothing(tmp_path):
    "The zip has a sum for each array, and none for names, types and shapes: the checkpoint has one for all."
    tree, facts = {"a": {f"w{k}": torch.rand(3, 4) for k in range(6)}, "s": torch.tensor(3)}, {"epoch": 3}
    path = write_checkpoint(tmp_path / "run.npz", tree, facts)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(600):
        data, bit = bytearray(whole), int(rng.integers(8 * len(whole)))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try: read, told = read_checkpoint(path)
        except InputError as e:
            assert "\n" not in str(e)
            refused += 1
            continue
        a, b = flatten(tree), flatten(read)
        assert list(a) == list(b) and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a) and told == facts
    assert refused > 400


def test_checkpoints_of_before_have_no_sum_and_still_read(tmp_path):
    text = json.dumps({"format": "lgdcnn-checkpoint-1", "facts": {"epoch": 2}}).encode()
    np.savez(tmp_path / "run.npz", **{"a/w": np.ones(3, dtype=np.float32)}, contents=np.frombuffer(text, dtype=np.uint8))
    tree, facts = read_checkpoint(tmp_path / "run.npz")
    assert tree["a"]["w"].tolist() == [1, 1, 1] and facts == {"epoch": 2}


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "run.npz", x=np.zeros(1 << 24), contents=np.zeros(2, dtype=np.uint8))  # 128 MB in 130 kB
    with pytest.raises(InputError, match="would unfold to"): read_checkpoint(tmp_path / "run.npz")
