"""Metrics that can rank a leaderboard in place of the UAR: scikit-learn's scorers, and those of other packages.

metrics.choose("roc_auc_ovr")    metrics.get("roc_auc_ovr")    metrics.names()    metrics.all()

May import: `embedcache`.
"""

from embedcache.errors import ConfigError, UnknownName
from embedcache.registry import Registry

from ._spec import Metric
from .scikit import refusal

__all__ = ["UAR", "Metric", "all", "choose", "find", "get", "names"]

UAR = "uar"  # the metric of a leaderboard by default
HINT = "UAR is uar; WAR is accuracy; macro-F1 is f1_macro; a loss is negated, such as neg_log_loss"

_registry: Registry[Metric] = Registry("metric", __name__, spec_class=Metric)
get, find, all, names = _registry.get, _registry.find, _registry.all, _registry.names


def choose(metric: str | Metric) -> Metric | None:
    """Return a metric by name; None for "uar".

    Raises UnknownName, which suggests a similar name, ConfigError for a scorer of scikit-learn that does not score
    several labels, or if a metric has another name than its entry point, and PluginError if an entry point cannot be
    loaded or is no `Metric`.
    """
    if isinstance(metric, Metric):
        return metric
    if metric == UAR:
        return None
    if reason := refusal(metric):
        raise ConfigError(reason)
    found = find(metric)
    if found is None:
        raise UnknownName("metric", metric, [UAR, *names()], HINT)
    if found.name != metric:
        raise ConfigError(
            f"the entry point '{metric}' in the group ser.metrics is a metric of the name '{found.name}'; wanted one "
            "name for both. Rename one of them."
        )
    return found
