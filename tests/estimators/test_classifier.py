"Classes, several targets, weights, and scikit-learn's own checks of the estimators."
import warnings
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

from lgdcnn import InputError, LGDCNNClassifier, LGDCNNRegressor, load_model
from lgdcnn.composition import SYMBOLS
from lgdcnn.config import MODELS, PROTOCOLS

TINY = MODELS["l-g-dcnn"].replace(d_model=16, conv_width=16)
QUICK = {"architecture": TINY, "epochs": 2, "verbose": False, "device": "cpu"}


@pytest.fixture(scope="module")
def data(embedded):
    formulas, y = (a[:200] for a in embedded.part("train"))
    return formulas, y, np.where(y < -1, "ionic", "metallic")


@pytest.fixture(scope="module")
def classifier(data):
    return LGDCNNClassifier(**QUICK).fit(data[0], data[2])


def test_probabilities_labels_and_logits_agree(classifier, data):
    p, d = classifier.predict_proba(data[0]), classifier.decision_function(data[0])
    assert p.shape == (200, 2) and np.allclose(p.sum(1), 1) and ((d > 0) == (p[:, 1] > 0.5)).all()
    assert (classifier.predict(data[0]) == classifier.classes_[p.argmax(1)]).all()
    assert set(classifier.metrics_) == {"accuracy", "balanced_accuracy", "roc_auc", "log_loss"}


@pytest.mark.parametrize("labels", [[False, True], [3, 7], ["a", "b"], [0.0, 1.0], ["x", "y", "z"], [2, 5, 9]])
def test_labels_of_any_type_survive_a_file(labels, tmp_path):
    y = [labels[i % len(labels)] for i in range(12)]
    formulas = [f"{a}{b}" for a in ("Na", "K", "Li") for b in ("Cl", "F", "Br", "I")]
    c = LGDCNNClassifier(**QUICK, n_models=2).fit(formulas, y, validation=0)
    again = load_model(c.save(tmp_path / "c.lgdcnn"))
    assert again.classes_.tolist() == sorted(labels) and again.classes_.dtype == c.classes_.dtype
    assert np.array_equal(again.predict_proba(formulas), c.predict_proba(formulas))
    assert set(again.predict(formulas).tolist()) <= set(labels) and np.allclose(c.predict_proba(formulas).sum(1), 1)
    d = c.decision_function(formulas)
    assert (d.argmax(1) if d.ndim > 1 else (d > 0)).tolist() == c.predict_proba(formulas).argmax(1).tolist()


def test_files_know_their_kind(classifier, fitted, tmp_path):
    c, r = classifier.save(tmp_path / "c"), fitted.save(tmp_path / "r")
    with pytest.raises(InputError, match="LGDCNNClassifier"): LGDCNNRegressor.load(c)
    with pytest.raises(InputError, match="LGDCNNRegressor"): LGDCNNClassifier.load(r)
    assert type(load_model(r)) is LGDCNNRegressor


@pytest.mark.parametrize("y, message", [
    (["a", "a"], "only one class, 'a'"), (["a", None], "row 1: the label is missing"), (["a", float("nan")], "row 1: the label"),
    (["a", 1], "different kinds"), ([0.5, 1.5], "regressor learns numbers"), (["a"], "2 formulas but 1 labels"),
    ([["a", "b"], ["b", "a"]], "must be one for each formula")])
def test_bad_labels(y, message):
    with pytest.raises(InputError, match=message): LGDCNNClassifier(**QUICK).fit(["NaCl", "KCl"], y)


def test_held_out_labels_must_be_known():
    with pytest.raises(InputError, match="row 0: the label 'c' is not among those trained on"):
        LGDCNNClassifier(**QUICK).fit(["NaCl", "KCl"], ["a", "b"], (["LiF"], ["c"]))


def test_several_targets_are_single_ones_side_by_side(data):
    "Twice the same column is twice the same lesson; the form of y comes back."
    formulas, y, _ = data
    table = pd.DataFrame({"a": y, "b": 10 * y + 1})
    m = LGDCNNRegressor(**QUICK, n_models=2).fit(formulas, table, validation=0.2)
    p, std = m.predict(pd.Series(formulas[:5], index=list("vwxyz")), return_std=True)
    assert list(p.columns) == ["a", "b"] and list(p.index) == list("vwxyz") and (std > 0).all().all()
    assert m.predict_interval(formulas[:5], 0.5).shape == (5, 2, 2) and len(m.metrics_["mae"]) == 2
    array = LGDCNNRegressor(**QUICK, n_models=2).fit(formulas, table.to_numpy(), validation=0.2)
    assert np.array_equal(array.predict(formulas[:5]), p.to_numpy())
    assert array.fit(formulas, y[:, None], 0).predict("NaCl").shape == (1, 1)


def test_holes_teach_nothing(data):
    "What stands in other rows' second column does not depend on what is missing, and a file keeps holes in its scores."
    formulas, y, _ = data
    table = np.stack([y, np.where(np.arange(200) % 3, np.nan, y)], 1)
    m = LGDCNNRegressor(**QUICK).fit(formulas, table)
    known = table[~np.isnan(table[:, 1]), 1]
    assert np.isfinite(m.predict(formulas)).all() and abs(m.target_mean_[1] - known.mean()) < 0.2
    assert np.isnan(m.scores_[:, 1]).any() and m.scores_.shape == (20, 2)


def test_several_targets_survive_a_file(data, tmp_path):
    formulas, y, _ = data
    m = LGDCNNRegressor(**QUICK).fit(formulas, pd.DataFrame({"a": y, "b": np.where(y < -1, np.nan, y)}))
    again = LGDCNNRegressor.load(m.save(tmp_path / "m"))
    pd.testing.assert_frame_equal(again.predict(formulas), m.predict(formulas))
    assert np.array_equal(again.predict_interval(formulas, 0.5), m.predict_interval(formulas, 0.5))


def test_weights_of_zero_are_rows_left_out(data):
    formulas, y, labels = data
    weight = np.where(np.arange(200) % 2, 0.0, 3.0)
    for cls, target in ((LGDCNNRegressor, y), (LGDCNNClassifier, labels)):
        thinned = cls(**QUICK).fit(formulas[::2], target[::2])
        weighed = cls(**QUICK).fit(formulas, target, sample_weight=weight)
        assert weighed.fingerprint_ == thinned.fingerprint_ and weighed.n_train_ == thinned.n_train_
        ask = "predict_proba" if cls is LGDCNNClassifier else "predict"
        assert np.allclose(getattr(weighed, ask)(formulas), getattr(thinned, ask)(formulas), atol=1e-4)


def test_heavy_rows_pull(data):
    formulas, y, _ = data
    both = lambda w: LGDCNNRegressor(TINY, PROTOCOLS["fast"].replace(batch_size=16, jitter=0), 60, verbose=False).fit(
        ["NaCl"] * 16, [0.0, 1.0] * 8, 0, sample_weight=[w, 1.0] * 8).predict("NaCl")[0]
    with pytest.warns(UserWarning, match="1 compositions .16 rows. stand in several rows with different targets"):
        assert both(20.0) < both(0.05) - 0.3


def test_a_donor_gives_its_layers(data, tmp_path):
    formulas, y, labels = data
    still = {**QUICK, "epochs": 1, "protocol": PROTOCOLS["fast"].replace(learning_rate=1e-12)}
    donor = LGDCNNRegressor(**QUICK).fit(formulas, pd.Series(y, name="enthalpy"))
    twin = LGDCNNRegressor(**still).fit(formulas[:20], pd.Series(y[:20] + 5, name="enthalpy"), init_from=donor)
    assert np.allclose(twin.predict(formulas), donor.predict(formulas), atol=1e-4), "same target: head and scale come along"
    other = LGDCNNRegressor(**still).fit(formulas[:20], pd.Series(y[:20] + 5, name="gap"), init_from=donor.save(tmp_path / "d"))
    layers = [np.allclose(m.embed(formulas[:9])[0], donor.embed(formulas[:9])[0], atol=1e-4) for m in (twin, other)]
    assert layers == [True, True] and abs(other.target_mean_ - twin.target_mean_) > 3
    c = LGDCNNClassifier(**still).fit(formulas, labels, init_from=donor)
    assert np.allclose(c.embed(formulas[:9])[0], donor.embed(formulas[:9])[0], atol=1e-4)
    with pytest.raises(InputError, match="another architecture"): LGDCNNRegressor("lstm").fit(formulas, y, init_from=donor)


def test_cross_validation_pipeline_and_grid(data):
    formulas, y, labels = data
    assert len(cross_val_score(LGDCNNRegressor(**QUICK), formulas, y, cv=2)) == 2
    scores = cross_val_score(LGDCNNClassifier(**QUICK), formulas, labels, cv=2, scoring="roc_auc", n_jobs=1)
    assert np.isfinite(scores).all()
    strip = FunctionTransformer(lambda f: [s.strip() for s in f])
    pipe = make_pipeline(strip, LGDCNNRegressor(**QUICK)).fit([f" {f} " for f in formulas], y)
    assert np.isfinite(pipe.score(list(formulas), y))
    grid = GridSearchCV(LGDCNNRegressor(**QUICK), {"epochs": [1, 2]}, cv=2).fit(list(formulas), y)
    assert set(grid.best_params_) == {"epochs"} and clone(grid.best_estimator_).epochs == grid.best_params_["epochs"]


# scikit-learn can check estimators on tables of numbers only. So numbers are written as formulas: column j is the amount of
# an element, and the checks see fit, predict, clone, pickling, weights, labels and scores as they are on formulas.

def as_formulas(X) -> list[str]:
    amounts = np.round(1 + 2000 / (1 + np.exp(-np.clip(X, -30, 30)))).astype(int)
    return ["".join(f"{SYMBOLS[j + 1]}{a}" for j, a in enumerate(row[:90])) for row in amounts]


class OnNumbers:
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = False, True, False
        return tags

    def fit(self, X, y, sample_weight=None):
        X, y = validate_data(self, X, y, multi_output=True)
        return super().fit(as_formulas(X), y, 0, sample_weight)

    def _outputs(self, X, precision="fp32"):
        check_is_fitted(self)
        return super()._outputs(as_formulas(validate_data(self, X, reset=False)), precision)


class NumberRegressor(OnNumbers, LGDCNNRegressor): pass
class NumberClassifier(OnNumbers, LGDCNNClassifier): pass


BOTH, CLASSES = ("NumberRegressor", "NumberClassifier"), ("NumberClassifier",)
REASONS = {  # check: for which of them it fails, and why
    "check_sample_weight_equivalence_on_dense_data":
        (BOTH, "a row of weight 2 is no row that stands twice: batches are drawn from rows, so the random steps differ"),
    "check_regressors_train": (("NumberRegressor",), "asks for r2 > 0.5, after two epochs of a network of 16 channels"),
    "check_classifiers_train": (CLASSES, "asks for an accuracy of 0.83, after two epochs of a network of 16 channels"),
    "check_supervised_y_2d": (CLASSES, "labels that stand in a column are refused; the check wants them used, with a warning"),
}


def checks(cls):  # on string input alone scikit-learn runs one check, that the estimator can be cloned
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        return list(estimator_checks_generator(cls(**QUICK)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", [NumberRegressor, NumberClassifier])
def test_scikit_learns_own_checks(cls):
    "Every check passes, or stands in the list with its reason; a listed check that passes is an error too."
    failed = {}
    for estimator, check in checks(cls):
        name = getattr(check, "func", check).__name__
        try: check(estimator)
        except SkipTest: pass  # array libraries, where they are not installed or not switched on
        except Exception as e: failed[name] = f"{type(e).__name__}: {e}".splitlines()[0]
    assert failed.keys() == {k for k, (kinds, _) in REASONS.items() if cls.__name__ in kinds}, failed


def test_not_fitted_is_scikit_learns_word():
    for cls in (LGDCNNRegressor, LGDCNNClassifier):
        with pytest.raises(NotFittedError, match="not trained"): cls().predict(["NaCl"])
