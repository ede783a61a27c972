"""Metrics by name: every scorer of scikit-learn is a metric or refused with advice; entry points; the contract."""

import math
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from sklearn.metrics import get_scorer_names

from classifiers import Metric, metrics
from classifiers.checks import check_metric
from classifiers.metrics import scikit
from embedcache import ConfigError, PluginError, SerError, UnknownName

own = Metric(
    "mine", "share of right predictions", "here", lambda truth, predicted, proba, labels: (truth == predicted).mean()
)


def recall_of_first(truth, predicted, proba, labels):
    return (predicted[truth == labels.index("fear")] == labels.index("fear")).mean()


@pytest.mark.parametrize("name", get_scorer_names())
def test_every_scorer_is_a_metric_that_keeps_the_contract_or_is_refused(name: str) -> None:
    if name in scikit.SCORERS:
        check_metric(metrics.get(name))
    else:
        with pytest.raises(ConfigError, match=rf"scikit-learn's scorer '{name}' .*Use (\w+)") as error:
            metrics.choose(name)
        assert str(error.value).rpartition("Use ")[2].split(",")[0].split(" ")[0].rstrip(".") in scikit.SCORERS


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("precision", "needs one label to be the positive one. Use precision_macro"),
        ("roc_auc", "Use roc_auc_ovr"),
        ("f1_samples", "several labels at once. Use f1_macro"),
        ("rand_score", "compares clusterings"),
        ("r2", "is for numbers, not for labels (regression)"),
        ("neg_mean_squared_error", "(regression)"),
    ],
)
def test_a_scorer_that_cannot_rank_heads_says_why(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        metrics.choose(name)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "nearest"), [("uarr", "uar"), ("roc_auc_ov", "roc_auc_ovr"), ("log_loss", "neg_log_loss"), ("", "")]
)
def test_an_unknown_metric_is_suggested_a_near_one(name: str, nearest: str) -> None:
    with pytest.raises(UnknownName) as error:
        metrics.choose(name)
    assert f"no metric '{name}'; have accuracy, " in str(error.value)
    assert ("did you mean" in str(error.value)) == bool(nearest)
    assert f"(did you mean '{nearest}" in str(error.value) or not nearest


def test_uar_is_no_metric_of_this_folder_and_a_metric_is_itself() -> None:
    assert metrics.choose("uar") is None
    assert metrics.choose(own) is own


def test_entry_points_add_metrics_and_take_no_name_over(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("mine", f"{__name__}:own", "ser.metrics"),
        EntryPoint("accuracy", f"{__name__}:own", "ser.metrics"),
        EntryPoint("uar", f"{__name__}:own", "ser.metrics"),
        EntryPoint("function", f"{__name__}:recall_of_first", "ser.metrics"),
        EntryPoint("other", f"{__name__}:own", "ser.metrics"),
    ]
    monkeypatch.setattr("embedcache.registry.entry_points", lambda group: points if group == "ser.metrics" else [])
    monkeypatch.setattr(EntryPoint, "load", lambda point: globals()[point.value.partition(":")[2]])
    assert metrics.choose("mine") is own
    assert metrics.choose("accuracy") is not own
    assert metrics.choose("uar") is None
    with pytest.raises(PluginError, match=r"metric 'function' .* cannot be used: got a function, wanted a Metric"):
        metrics.choose("function")
    with pytest.raises(
        ConfigError, match="'other' in the group ser.metrics is a metric of the name 'mine'; wanted one"
    ):
        metrics.choose("other")
    with pytest.raises(UnknownName, match="did you mean 'mine'"):
        metrics.choose("mime")


def changes_truth(truth, predicted, proba, labels):
    value = (truth == predicted).mean()
    truth[:] = 0
    return value


FAULTS: dict[str, tuple[Callable, str]] = {
    "a loss": (lambda t, p, q, names: (t != p).mean(), "negate a loss"),
    "the same for all": (lambda t, p, q, names: 0.5, "wanted more for true ones"),
    "order of rows": (
        lambda t, p, q, names: np.average(t == p, weights=np.arange(1, 1 + len(t))),
        "predictions in another order",
    ),
    "order of labels": (lambda t, p, q, names: (t == p).mean() + (p == 0).mean() / 9, "labels in another order"),
    "changes": (changes_truth, "changes its arguments"),
    "raises": (lambda t, p, q, names: 1 / 0, "it raised ZeroDivisionError: division by zero"),
    "not a number": (lambda t, p, q, names: "0.5", "of the type str; wanted one number"),
    "an array": (lambda t, p, q, names: np.ones(4), "of the type ndarray; wanted one number"),
    "a truth value": (lambda t, p, q, names: True, "of the type bool; wanted one number"),
    "NaN": (lambda t, p, q, names: math.nan, "it returned nan; wanted a finite number"),
    "infinite": (lambda t, p, q, names: np.float32("inf"), "it returned inf; wanted a finite number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_metric_finds(fault: str) -> None:
    function, said = FAULTS[fault]
    with pytest.raises(SerError, match=said):
        check_metric(replace(own, function=function))


def test_check_metric_finds_a_score_outside_its_range() -> None:
    with pytest.raises(SerError, match=r"returned 1; its range is 0 to 0.5"):
        check_metric(replace(own, lowest=0.0, highest=0.5))


def test_metrics_that_name_a_label_or_return_a_whole_number_keep_the_contract() -> None:
    check_metric(replace(own, function=recall_of_first))
    check_metric(replace(own, function=lambda t, p, q, names: int((t == p).sum())))


@pytest.mark.parametrize(("name", "other"), [("average_precision", "roc_auc_ovr"), ("top_k_accuracy", "accuracy")])
def test_scorers_that_say_nothing_of_two_labels_are_refused(name: str, other: str) -> None:
    """scikit-learn would take the second label as the positive one, or count every prediction as right."""
    with pytest.raises(SerError, match=rf"Use {other}"):
        metrics.get(name).function(np.array([0, 1]), np.array([0, 1]), np.eye(2), ("a", "b"))
