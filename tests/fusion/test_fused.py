"A fused model: the estimator's contract, members that fail, resuming, files, the command line."
import json
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from bad_fits import BAD_FITS
from click.testing import CliRunner
from sklearn.base import clone

from lgdcnn import FusedClassifier, FusedRegressor, InputError, LGDCNNClassifier, LGDCNNRegressor, load_model
from lgdcnn.cli import main
from lgdcnn.composition import featurize
from lgdcnn.estimators.trees import Trees
from lgdcnn.fusion.members import PRESETS, Lesson, Member, Question, ask, members_of

NETWORK = Member("lstm", epochs=1, width=8)
TINY = (Member("trees-l2", n_trees=200), Member("trees-extra", n_trees=5), NETWORK)
QUIET = {"verbose": False, "device": "cpu", "n_jobs": 1}


@pytest.fixture(scope="module")
def rows(embedded):
    chosen = np.random.default_rng(1).permutation(len(embedded.part("train")[0]))[:300]
    return tuple(a[chosen] for a in embedded.part("train"))


@pytest.fixture(scope="module")
def fused(rows):
    return FusedRegressor(TINY, **QUIET).fit(*rows, validation=0.3)


@pytest.fixture(scope="module")
def path(fused, tmp_path_factory):
    return fused.save(tmp_path_factory.mktemp("fused") / "m.lgdcnn")


def test_prediction_is_below_its_members_and_covers(fused, embedded):
    asked, y = embedded.part("test")
    said = [ask(m, Question(fused._inputs(asked)))[0] for m in fused.members_.values()]
    errors = np.abs(np.array(said) - y).mean(1)
    assert np.abs(fused.predict(asked) - y).mean() < 1.02 * errors.min()  # 90 rows chose the weights
    low, high = fused.predict_interval(asked, 0.9).T
    assert ((low <= y) & (y <= high)).mean() == pytest.approx(0.9, abs=0.06)
    assert fused.score(asked, y) > 0.85 and set(fused.member_errors_) == {m.name for m in TINY}


def test_rows_are_held_out_by_composition(rows):
    seen = []
    fit = Lesson.fit
    def look(self, member):
        seen.append((set(map(str, self.train.numbers.tolist())), len(self.train), len(self.held)))
        return fit(self, member)
    twice = [*rows[0][:40], *rows[0][:40]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lesson, "fit", look)
        m = FusedRegressor(TINY[:1], **QUIET).fit(twice, [*rows[1][:40]] * 2, validation=0.5)
    (_, n, held), = seen
    assert n + held == 80 and n % 2 == held % 2 == 0 and m.n_train_ == n


def test_same_seed_same_numbers_and_threads_do_not_matter(rows, fused):
    again = FusedRegressor(TINY, **QUIET | {"n_jobs": 2}).fit(*rows, validation=0.3)
    assert np.array_equal(again.predict(rows[0][:20]), fused.predict(rows[0][:20]))


def test_std_and_intervals_agree(fused):
    asked = ["NaCl", "Fe2O3"]
    (mean, std), (same, raw) = fused.predict(asked, return_std=True), fused.predict(asked, raw_std=True)
    assert np.array_equal(mean, same) and std == pytest.approx(raw * fused.std_factor_)
    low, high = fused.predict_interval(asked, 0.8).T
    half = pytest.approx(fused.interval_multiple(0.8) * raw)
    assert high - mean == half and mean - low == half
    assert fused.predict("NaCl") == pytest.approx(mean[:1]) and fused.predict(pd.Series(asked)) == pytest.approx(mean)


def test_another_unit_gives_the_same_in_that_unit(rows, fused):
    other = FusedRegressor(TINY, **QUIET).fit(rows[0], 1024 * rows[1], validation=0.3)  # a power of two rounds nothing
    assert other.predict_interval(rows[0]) == pytest.approx(1024 * fused.predict_interval(rows[0]), rel=1e-6)


def test_saved_and_loaded_it_is_the_same(fused, path, rows):
    for again in (FusedRegressor.load(path), load_model(path, "cpu")):
        assert np.array_equal(again.predict_interval(rows[0], 0.8), fused.predict_interval(rows[0], 0.8))
        assert again.metrics_ == fused.metrics_ and again.member_errors_ == fused.member_errors_
    assert again.save(path.with_name("n")).read_bytes() == path.read_bytes()


def test_damaged_files_are_refused(path, tmp_path):
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for i in range(60):
        place = int(rng.integers(len(data)))
        (tmp_path / "m").write_bytes(data[:place] if i % 2 else data[:place] + bytes([data[place] ^ 4]) + data[place + 1:])
        with pytest.raises(InputError) as e: load_model(tmp_path / "m")
        assert "\n" not in str(e.value) and len(str(e.value)) < 600


EDITS = {"weights": ([1.0, 1.0, 1.0], "weights"), "weights ": ([-1.0, 1.0, 1.0], "weights"), "factors": ([0.0, 1.0, 1.0], "factors"),
         "gate": ([1.0, 0.0], "gate"), "members": ([], "cannot load"), "members ": ([NETWORK.to_dict()] * 3, "cannot load"),
         "scores": (None, "cannot load"), "elements": ([1000], "elements"), "smallest_fraction": (-1, "fraction"),
         "format": (3, "update lgdcnn"), "format ": (5, "update lgdcnn"), "kind": ("oracle", "update lgdcnn|does not know|cannot load")}


@pytest.mark.parametrize("what", EDITS)
def test_facts_that_are_not_possible_are_refused(what, path, tmp_path):
    "Summed up again, as who edits a file on purpose would: the numbers themselves are looked at."
    from lgdcnn.estimators.files import summed
    data, (value, words) = path.read_bytes(), EDITS[what]
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    facts = json.loads(header["__metadata__"]["lgdcnn"])
    if value is None: header["other"] = header.pop(what)
    else: facts[what.strip()] = value
    facts["sha256"] = 64 * "0"
    header["__metadata__"]["lgdcnn"] = json.dumps(facts)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (tmp_path / "m").write_bytes(summed(len(text).to_bytes(8, "little") + text + data[8 + length:]))
    with pytest.raises(InputError, match=words) as e: load_model(tmp_path / "m")
    assert "\n" not in str(e.value)


def test_other_kinds_are_told_apart(path, fitted, tmp_path):
    plain = fitted.save(tmp_path / "plain")
    for load, file, words in ((FusedClassifier.load, path, "holds a fused-regressor"), (FusedRegressor.load, plain, "holds a regressor"),
                              (LGDCNNRegressor.load, path, "no single network: load it with lgdcnn.load_model"),
                              (LGDCNNClassifier.load, path, "no single network")):
        with pytest.raises(InputError, match=words): load(file)
    with pytest.raises(InputError, match="no single network"):
        LGDCNNRegressor("dcnn-k1", epochs=1).fit(["NaCl", "KCl"], [1, 2], 0, init_from=path)


# --- the refusals of the plain estimator, in its words

@pytest.mark.parametrize("case", BAD_FITS)
def test_bad_input_is_refused_in_the_same_words(case, small_config):
    formulas, y, options, message = BAD_FITS[case]
    if case == "cube": pytest.skip("several targets are refused before their shape")
    said = []
    for model in (LGDCNNRegressor(small_config, epochs=1, verbose=False), FusedRegressor((NETWORK,), **QUIET)):
        with pytest.raises(InputError, match=message) as e: model.fit(formulas, y, **options)
        said.append(str(e.value))
        with pytest.raises(InputError, match="not trained"): model.predict(["NaCl"])
    assert said[0] == said[1]


@pytest.mark.parametrize("y, options", [
    (["a", None, "b", "a"], {}), (["a"] * 4, {}), (["a", 1, "b", 2], {}), ([0.1, 0.2, 0.3, 0.4], {}), (["a", "b"], {}),
    (["a", "b", "a", "b"], {"validation": (["LiF"], ["c"])}), (["a", "b", "a", "b"], {"sample_weight": [1, -1, 1, 1]})])
def test_bad_labels_are_refused_in_the_same_words(y, options, small_config):
    said = []
    for model in (LGDCNNClassifier(small_config, epochs=1, verbose=False), FusedClassifier((NETWORK,), **QUIET)):
        with pytest.raises(InputError) as e: model.fit(["NaCl", "KCl", "LiF", "MgO"], y, **options)
        said.append(str(e.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("options, message", [
    ({"members": "quik"}, "did you mean 'quick'"), ({"members": ["tree-l1"]}, "did you mean 'trees-l1'"), ({"members": 3}, "members = 3"),
    ({"members": []}, "there is no member"), ({"members": [NETWORK, NETWORK]}, "two members are the same"), ({"seed": -1}, "seed = -1"),
    ({"seed": 0.5}, "seed = 0.5"), ({"n_jobs": 0}, "n_jobs = 0"), ({"device": "warp"}, "warp"), ({"precision": "fp8"}, "fp8")])
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        FusedRegressor(**{"members": (NETWORK,), "verbose": False, **options}).fit(["NaCl", "KCl"], [1, 2], 0)


@pytest.mark.parametrize("options, message", [
    ({"y": [[1, 2]] * 4}, "learns one target, not 2"), ({"formulas": pd.DataFrame({"formula": ["NaCl"] * 4})}, "one column, not a table"),
    ({"sample_weight": [1, 2, 1, 1]}, "trees-l2-200 takes no weights of rows")])
def test_what_a_fused_model_cannot_do_is_said(options, message):
    with pytest.raises(InputError, match=message):
        FusedRegressor(TINY, **QUIET).fit(**{"formulas": ["NaCl", "KCl", "LiF", "MgO"], "y": [1, 2, 3, 4], **options})


def test_the_inside_of_a_network_is_asked_of_a_member(fused):
    from lgdcnn.trust.explanation import contributions
    for ask_it in (lambda: fused.embed(["NaCl"]), lambda: fused.layers, lambda: fused.embed_layers(["NaCl"], ("lstm",))):
        with pytest.raises(InputError, match=r"model.members_\['lstm-8-1ep'\]"): ask_it()
    with pytest.raises(InputError, match="FusedRegressor cannot be explained"): contributions(fused, ["NaCl"])
    assert len(contributions(fused.members_["lstm-8-1ep"], ["NaCl"])) == 2


def test_scikit_learns_habits(fused):
    twin = clone(FusedRegressor("quick", seed=3))
    assert twin.get_params()["members"] == "quick" and twin.set_params(seed=4).seed == 4
    with pytest.raises(InputError, match="not trained yet"): clone(fused).predict(["NaCl"])


def test_presets_are_members(root):
    assert list(PRESETS) == ["trees", "quick", "good", "best", "pretrained"]
    assert all(len({m.name for m in members_of(p)}) == len(PRESETS[p]) for p in PRESETS)


def test_a_member_starts_from_the_package_and_comes_back_from_a_file(rows, tmp_path):
    "One epoch changes little: what the network knew still shows, and a network from a seed knows nothing yet."
    started, new = (Member("l-g-dcnn", epochs=1, start=s) for s in ("pretrained", None))
    f, y = rows[0][:60], rows[1][:60]
    m = FusedRegressor((started, "trees-l1"), **QUIET).fit(f, y)
    path = m.save(tmp_path / "m.lgdcnn")
    assert np.array_equal(FusedRegressor.load(path).predict(f[:9]), m.predict(f[:9]))
    lesson = lambda seed: Lesson("regressor", featurize(f), y, y, None, None, None, seed, "cpu", "fp32", 1, False)
    assert lesson(0).digest(started) != lesson(0).digest(new)
    weights = [[w.detach().numpy() for w in lesson(seed).fit(started).networks_[0].parameters()] for seed in (0, 1)]
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*weights, strict=True) if a.size > 1000]
    assert min(alike) > 0.9, "two seeds start from the same weights"


# --- few rows, none held out, members that fail

def test_without_held_out_rows_members_count_alike(rows):
    m = FusedRegressor(TINY[:2], **QUIET).fit(rows[0][:40], rows[1][:40], validation=0)
    assert m.fusion_.weights.tolist() == [0.5, 0.5] and m.metrics_ == {}
    with pytest.warns(UserWarning, match="no rows were held out"): m.predict(["NaCl"], return_std=True)
    with pytest.raises(InputError, match="there are 0: train with some rows held out"): m.predict_interval(["NaCl"])


@pytest.mark.parametrize("n", [2, 3, 12])
def test_a_handful_of_rows_is_enough(n, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = FusedRegressor((Member("trees-l2", n_trees=3), NETWORK), **QUIET).fit(rows[0][:n], rows[1][:n])
        assert np.isfinite(m.predict(["NaCl"], return_std=True)).all() and len(m.members_) == 2


def failing(*names):
    fit = Lesson.fit
    def some(self, member):
        if member.model in names: raise MemoryError("no room")
        return fit(self, member)
    return some


def test_a_member_that_fails_is_left_out_with_a_warning(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(Lesson, "fit", failing("lstm"))
    with pytest.warns(UserWarning, match="lstm-8-1ep is left out of the fused model: MemoryError: no room"):
        m = FusedRegressor(TINY, **QUIET).fit(rows[0][:60], rows[1][:60])
    assert list(m.members_) == ["trees-l2-200", "trees-extra-5"]
    assert np.array_equal(load_model(m.save(tmp_path / "m")).predict(["NaCl"]), m.predict(["NaCl"]))


def test_without_lightgbm_the_networks_go_on(rows, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    zero = np.where(np.arange(60) % 2, rows[1][:60], 0.0)
    with pytest.warns(UserWarning) as told: m = FusedRegressor(TINY, **QUIET).fit(rows[0][:60], zero)
    text = [str(w.message) for w in told]
    assert list(m.members_) == ["lstm-8-1ep"] and sum("LightGBM cannot be loaded" in t for t in text) == 3
    assert any("no classifier of zeros" in t for t in text)


def test_if_no_member_is_left_it_is_one_error(rows, monkeypatch):
    monkeypatch.setattr(Lesson, "fit", failing("lstm", "trees-l2", "trees-extra"))
    model = FusedRegressor(TINY, **QUIET)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="no member could be fitted: trees-l2-200 .MemoryError"):
        model.fit(rows[0][:60], rows[1][:60])
    with pytest.raises(InputError, match="not trained yet"): model.predict(["NaCl"])


def test_a_killed_fit_goes_on(rows, monkeypatch, tmp_path):
    part, options = (rows[0][:60], rows[1][:60]), QUIET | {"checkpoint": tmp_path / "c"}
    fit, done = Lesson.fit, []
    def counting(self, member):
        if member.model == "lstm" and not done.count("lstm"):
            done.append("lstm")
            raise KeyboardInterrupt
        done.append(member.model)
        return fit(self, member)
    monkeypatch.setattr(Lesson, "fit", counting)
    with pytest.raises(KeyboardInterrupt): FusedRegressor(TINY, **options).fit(*part)
    m = FusedRegressor(TINY, **options).fit(*part)
    assert done == ["trees-l2", "trees-extra", "lstm", "lstm"], "what was done is not done again"
    assert np.array_equal(m.predict(["NaCl"]), FusedRegressor(TINY, **QUIET).fit(*part).predict(["NaCl"]))
    FusedRegressor(TINY[:1], **options, seed=1).fit(*part)
    FusedRegressor(TINY[:1], **options).fit(part[0], part[1] + 1)
    assert done.count("trees-l2") == 4, "another seed and other targets are another member"
    for file in (tmp_path / "c").glob("trees-l2*"): file.write_bytes(b"")
    with pytest.warns(UserWarning, match="fitted anew"): FusedRegressor(TINY[:1], **options).fit(*part)


# --- zeros

def test_zeros_are_told_exactly(rows, tmp_path, monkeypatch):
    monkeypatch.setattr("lgdcnn.fusion.fused.GATE", Member("trees-l2", n_trees=100))
    gap = np.array([2.0 + len(f) / 10 if set("OFS") & set(f) else 0.0 for f in rows[0]])
    m = FusedRegressor(TINY[:2], **QUIET).fit(rows[0], gap, validation=0.3)
    said = m.predict(rows[0])
    assert m.gate_ is not None and ((said == 0) == (gap == 0)).mean() > 0.9
    again = load_model(m.save(tmp_path / "m"))
    assert np.array_equal(again.predict(rows[0]), said)


def test_a_target_without_zeros_has_no_gate(fused): assert fused.gate_ is None and fused.fusion_.gate is None


# --- classes

@pytest.mark.parametrize("k", [2, 3])
def test_classes(k, rows, embedded, tmp_path):
    cut = lambda y: np.array(["low", "middle", "high"])[np.digitize(y, [-1] if k == 2 else [-1.5, -0.5])]
    m = FusedClassifier((Member("trees-l2", n_trees=30), Member("trees-extra", n_trees=5), NETWORK), **QUIET).fit(rows[0], cut(rows[1]), validation=0.3)
    asked, y = embedded.part("test")
    p = m.predict_proba(asked)
    assert p.shape == (len(asked), k) and p.sum(1) == pytest.approx(1) and m.classes_.tolist() == sorted(set(cut(y)))
    assert (m.predict(asked) == cut(y)).mean() == m.score(asked, cut(y)) > 0.7 and set(m.metrics_) >= {"accuracy"}
    d = m.decision_function(asked)
    assert d.shape == ((len(asked),) if k == 2 else (len(asked), k))
    again = load_model(m.save(tmp_path / "m"))
    assert np.array_equal(again.predict_proba(asked), p) and (again.predict(asked) == m.predict(asked)).all()


# --- the command line

def run(*words): return CliRunner().invoke(main, [str(w) for w in words])


def test_train_and_predict_from_the_shell(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "quick", TINY)
    pd.DataFrame({"formula": rows[0], "e": rows[1]}).to_csv(tmp_path / "t.csv", index=False)
    r = run("train", tmp_path / "t.csv", "--target", "e", "--architecture", "fused", "--preset", "quick", "--quiet", "--device", "cpu",
            "--checkpoint", tmp_path / "kept", "--out", tmp_path / "m")
    assert r.exit_code == 0 and "validation MAE" in r.stdout and "(fused" in r.stdout and "weight" in r.stderr, r.stderr
    assert len(list((tmp_path / "kept").iterdir())) == 3
    r = run("predict", tmp_path / "m", "NaCl", "Fe2O3", "--format", "csv", "--check", "model")
    header, first, _ = r.stdout.splitlines()
    assert r.exit_code == 0 and header.startswith("formula,prediction,std,lower,upper,unknown_elements,trace_elements,distance,"), r.stderr
    assert float(first.split(",")[1]) == pytest.approx(load_model(tmp_path / "m").predict(["NaCl"])[0], rel=1e-5)
    r = run("cecv", "count", tmp_path / "m", tmp_path / "t.csv")
    assert r.exit_code == 2


@pytest.mark.parametrize("options, words", [
    (("--epochs", "3"), "--epochs is of a network"), (("--protocol", "fast"), "--protocol is of a network"), (("--n-models", "2"), "--n-models is of"),
    (("--extra", "T"), "leave --extra T out"), (("--target", "f"), "learns one target"), (("--preset", "quik"), "did you mean 'quick'")])
def test_options_that_make_no_sense_are_refused(options, words, tmp_path):
    (tmp_path / "t.csv").write_text("formula,e,f,T\nNaCl,1,2,3\n")
    r = run("train", tmp_path / "t.csv", "--target", "e", "--architecture", "fused", *options, "--out", tmp_path / "m")
    assert r.exit_code == 2 and words in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
    for alone in (("--preset", "quick"), ("--checkpoint", "c")):
        r = run("train", tmp_path / "t.csv", "--target", "e", *alone, "--out", tmp_path / "m")
        assert r.exit_code == 2 and f"{alone[0]} is for --architecture fused" in r.stderr


def test_ten_thousand_formulas_take_no_time(fused, rows):
    many = [f"{a}{k}{b}" for k in range(1, 11) for a in "Na Fe Ca Al Zr Li K Ti Ni Cu".split() for b in "O S N F B P C H Cl Se".split()] * 10
    start = time.process_time()
    assert len(fused.predict(many)) == 10_000
    assert time.process_time() - start < 10


def test_numpys_whole_numbers_count_like_pythons(rows, tmp_path):
    numpys = (Member("trees-l2", n_trees=np.int64(5), seed=np.int64(2)), Member("lstm", width=np.int64(32), epochs=np.int64(1)))
    pythons = (Member("trees-l2", n_trees=5, seed=2), Member("lstm", width=32, epochs=1))
    formulas, y = (list(part)[:40] for part in rows)
    one, other = (FusedRegressor(m, seed=seed, verbose=False, device="cpu", n_jobs=1).fit(formulas, y)
                  for m, seed in ((numpys, np.int64(3)), (pythons, 3)))
    assert list(one.members_) == list(other.members_) and len(one.members_) == 2
    assert np.array_equal(load_model(one.save(tmp_path / "m"), "cpu").predict(formulas), other.predict(formulas))


def test_a_table_of_one_column_is_one_target(rows):
    formulas, y = list(rows[0])[:40], np.asarray(rows[1], dtype=float)[:40]
    members, held = ["trees-extra"], (["W3Re5", "Os7Ir2"], pd.DataFrame({"e": [1.0, 2.0]}))
    fit = lambda y, **options: FusedRegressor(members, **QUIET).fit(formulas, y, **options)
    assert np.array_equal(fit(y[:, None]).predict(["NaCl"]), fit(y).predict(["NaCl"]))
    assert fit(pd.DataFrame({"e": y}), validation=held).target_["name"] == "e"
    with pytest.raises(InputError, match="row 0"): fit(pd.DataFrame({"e": [np.nan, *y[1:]]}))


def test_a_checkpoint_that_can_be_no_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be made"):
            FusedRegressor((NETWORK,), checkpoint=where, verbose=False).fit(["NaCl", "KCl"], [1, 2], 0)


# --- what is refused in one line

@pytest.mark.parametrize(("make", "members", "seed"), [
    (FusedRegressor, [Member("trees-extra", n_trees=2)], 2**32), (FusedRegressor, [Member("lstm", epochs=1, width=4)], 2**40),
    (FusedClassifier, [Member("trees-extra", n_trees=2, seed=2)], 2**32 - 2)])
def test_a_seed_that_trees_cannot_take_is_refused_before_anything_is_fitted(rows, make, members, seed):
    with pytest.raises(InputError, match=r"must stay below 2\*\*32") as said:
        make(members, seed=seed, **QUIET).fit(rows[0][:40], rows[1][:40] > -1)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("kind", ["trees-l2", "trees-extra"])
def test_the_largest_seed_fits(rows, kind):
    m = FusedRegressor([Member(kind, n_trees=2)], seed=2**32 - 1, **QUIET).fit(rows[0][:40], rows[1][:40])
    assert np.isfinite(m.predict(["NaCl"])).all()


def test_trees_refuse_such_a_seed_too(rows):
    with pytest.raises(InputError, match=r"must stay below 2\*\*32"):
        Trees("extra", 2, seed=2**32).fit(rows[0][:40], rows[1][:40])


@pytest.mark.parametrize("load", [FusedRegressor.load, load_model])
def test_without_lightgbm_a_file_of_trees_says_what_it_needs(path, monkeypatch, load):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(InputError, match="holds trees, and they need the extra 'peers'") as said: load(path)
    text = str(said.value)
    assert "\n" not in text and "pip install 'lgdcnn[peers]'" in text and "save the model again" not in text


def test_without_lightgbm_networks_alone_load(rows, tmp_path, monkeypatch):
    m = FusedRegressor([NETWORK], **QUIET).fit(rows[0][:40], rows[1][:40])
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert (load_model(m.save(tmp_path / "m")).predict(["NaCl"]) == m.predict(["NaCl"])).all()


@pytest.mark.parametrize("name", ["format4-fused-regressor", "format4-fused-classifier"])
def test_files_of_before_answer_as_ever(name, root):
    "Written before the class was cut in two, with the numbers it gave then."
    folder = root / "tests" / "files"
    told = json.loads((folder / "expected.json").read_text())
    m, expected, asked = load_model(folder / f"{name}.safetensors", "cpu"), told[name], told["formulas"]
    if "proba" in expected:
        assert m.predict(asked).tolist() == expected["prediction"]
        return np.testing.assert_allclose(m.predict_proba(asked), expected["proba"], atol=1e-6)
    assert m.gate_ is not None
    median, std = m.predict(asked, return_std=True, raw_std=True)
    np.testing.assert_allclose(median, expected["prediction"], atol=1e-6)
    np.testing.assert_allclose(std, expected["std"], atol=1e-6)
    np.testing.assert_allclose(m.predict_interval(asked, 0.5), expected["interval"], atol=1e-5)
