"Metrics are scikit-learn's, and the same whoever asks for them."
import math

import numpy as np
import pytest

from lgdcnn.training.metrics import CLASS_METRICS, METRIC_NAMES, METRICS, metrics, roc_auc


def test_metrics_are_scikit_learns():
    from sklearn.metrics import mean_absolute_error as mae
    from sklearn.metrics import r2_score, root_mean_squared_error
    y, p = np.random.default_rng(0).normal(size=(2, 50))
    for name, theirs in (("mae", mae), ("rmse", root_mean_squared_error), ("r2", r2_score)):
        assert METRICS[name](y, p) == pytest.approx(theirs(y, p))


def test_class_metrics_are_scikit_learns():
    from sklearn import metrics
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 200), rng.integers(0, 21, 200) / 20  # many ties
    theirs = {"accuracy": metrics.accuracy_score(y, p > 0.5), "balanced_accuracy": metrics.balanced_accuracy_score(y, p > 0.5),
              "roc_auc": metrics.roc_auc_score(y, p), "log_loss": metrics.log_loss(y, p)}
    assert {name: m(y, p) for name, m in CLASS_METRICS.items()} == pytest.approx(theirs)
    assert math.isnan(CLASS_METRICS["roc_auc"]([1, 1], [0.2, 0.4]))


def test_a_row_of_the_benchmark_says_what_the_estimator_says():
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 60), rng.integers(0, 8, 60) / 7
    found = metrics("classification", y, p)
    assert tuple(found) == METRIC_NAMES["classification"]
    assert found == {name: m(y, p) for name, m in CLASS_METRICS.items() if name in found} | {"roc_auc_hard": roc_auc(y, p > 0.5)}
    assert found["roc_auc_hard"] == pytest.approx(found["balanced_accuracy"], abs=1e-12)
