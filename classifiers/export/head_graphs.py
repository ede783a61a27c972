"""Heads as ONNX graphs: one function for each type of head, selected by `singledispatch`.

To export a new type of head, register a function for it with `probabilities`.

The graphs are built by hand from a few basic operators, so that they are small, readable, and round as the heads do.
Where a rounding error could change a result, the arithmetic is float64: libsvm counts votes, for example, and a tiny
difference can move a whole vote.

Shapes: n rows, d columns of the input, C classes, L layers, D dimensions of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from itertools import combinations
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from embedcache import ModelError

from ..heads import MIN_PROBABILITY, Calibrated, FrameHead, NeuralHead, ScoreHead, innermost, names, stack
from ..heads.best_layer import BestLayer
from ..heads.knn import KNN
from ..heads.lgbm import LGBM
from ..heads.logreg import LogReg
from ..heads.stack import Stack
from ..heads.svm import SVM
from .frame_head_graphs import frame_logits
from .graph_builder import EMBEDDING, FRAMES, Graph

Node = dict[str, Any]  # a node of a tree, as LightGBM dumps it


def head_model(head: Any) -> Any:
    """Return the ONNX model of a fitted head: `embedding` or `frames` (n, d) -> `probabilities` (n, C), `label` (n,).

    Raises ModelError if no function is registered for the type of the head.
    """
    graph = Graph(input_name(head))
    labels = tuple(str(label) for label in head.classes_)
    return graph.model(probabilities(head, graph, graph.input), labels, int(head.n_features_in_))


def input_name(head: Any) -> str:
    """Return the name of the input of a head's graph: `frames` for a head over frames, otherwise `embedding`."""
    return FRAMES if isinstance(innermost(head), FrameHead) else EMBEDDING


@singledispatch
def probabilities(head: Any, graph: Graph, x: str) -> str:
    """Add a fitted head to a graph: x (n, d) float32 -> probabilities (n, C) float32, with rows that sum to 1."""
    raise ModelError(
        f"a head of the type {type(head).__name__} cannot be exported; wanted a head of ser ({', '.join(names())}). "
        "Fit one of them, or register a function for the type with `classifiers.export.onnx_export.probabilities`."
    )


@singledispatch
def values(part: Any, graph: Graph, x: str) -> str:
    """Add a fitted scikit-learn estimator to a graph: the result of its `transform` or `decision_function` on x (n, d).

    A k-nearest-neighbours classifier gives its votes.
    """
    raise ModelError(
        f"a head with an estimator of the type {type(part).__name__} cannot be exported; wanted an estimator that the "
        "heads of ser use. Fit a head of ser."
    )


@probabilities.register
def _(head: NeuralHead, graph: Graph, x: str) -> str:
    """Standardise, sum over layers with the learned weights, then linear layers with ReLU between them.

    The sum over layers is one product, (1, L) @ (n, L, D), which adds the layers in the same order as numpy.
    """
    h = values(head.scaler_, graph, x)
    if head.n_layers > 1:
        cube = graph.reshape(h, 0, head.n_layers, -1)  # (n, L, D)
        h = graph.reshape(graph("MatMul", graph.constant(head.layer_weights_[None]), cube), 0, -1)
    for weight, bias in zip(head.coefs_[:-1], head.intercepts_[:-1], strict=True):
        h = graph("Relu", graph.linear(h, weight, bias))
    return graph.softmax(graph.linear(h, head.coefs_[-1], head.intercepts_[-1]))


@probabilities.register
def _(head: LogReg, graph: Graph, x: str) -> str:
    """Compute the softmax of the decision values, which is what `predict_proba` of scikit-learn computes."""
    return graph.softmax(values(head.model_, graph, x))


@probabilities.register
def _(head: ScoreHead, graph: Graph, x: str) -> str:
    """Compute the softmax of the decision values, divided by the temperature.

    This is done in float64, because a temperature below 1 magnifies rounding errors.
    """
    approximated = isinstance(head, SVM) and "kernel" in head.model_.named_steps
    scores = (_scores_of_sample if approximated else values)(head.model_, graph, x)
    return graph.single(graph.softmax(graph.double(scores), head.temperature_, np.float64))


def _scores_of_sample(part: Pipeline, graph: Graph, x: str) -> str:
    """Add the steps of an approximated `svm`, with the last one in float64 like the kernel: (n, d) -> (n, C)."""
    *before, ridge = (step for _, step in part.steps)
    for step in before:
        x = values(step, graph, x)
    return graph.linear(x, *_coef_and_intercept(ridge), np.float64)


@probabilities.register
def _(head: KNN, graph: Graph, x: str) -> str:
    """Multiply the votes by the class weights, then divide by their sum."""
    votes = graph("Mul", values(head.model_, graph, x), graph.constant(head.votes_, np.float64))
    return graph.single(graph("Div", votes, _row_sums(graph, votes)))


@probabilities.register
def _(head: BestLayer, graph: Graph, x: str) -> str:
    """Slice the columns of the chosen layer, then compute the softmax of their decision values."""
    dim = head.n_features_in_ // head.n_layers
    return graph.softmax(values(head.model_, graph, graph.columns(x, head.layer_ * dim, (head.layer_ + 1) * dim)))


@probabilities.register
def _(head: Stack, graph: Graph, x: str) -> str:
    """Average the probabilities of the members, or apply the final regression to their logarithms."""
    members = [probabilities(member, graph, x) for member in head.members_]  # each (n, C)
    if head.final_ is None:
        return graph("Mean", *members)
    logs = graph.logs(graph("Concat", *members, axis=1), stack.MIN_PROBABILITY)  # (n, members * C)
    return graph.softmax(values(head.final_, graph, logs))


@probabilities.register
def _(head: Calibrated, graph: Graph, x: str) -> str:
    """Divide the logarithms of the probabilities by the temperature, then compute the softmax."""
    logs = graph.logs(probabilities(head.model_, graph, x), MIN_PROBABILITY)
    return graph.softmax(logs, head.temperature_)


@probabilities.register
def _(head: FrameHead, graph: Graph, x: str) -> str:
    """Compute the softmax of the logits of the network, in float64."""
    return graph.single(graph.softmax(frame_logits(head, graph, x)))


@probabilities.register
def _(head: LGBM, graph: Graph, x: str) -> str:
    """Compute the softmax of the sums of leaves."""
    return graph.softmax(_sum_leaves(head.booster_, graph, x))


@values.register
def _(part: Pipeline, graph: Graph, x: str) -> str:
    """Add the steps one after the other."""
    for _, step in part.steps:
        x = values(step, graph, x)
    return x


@values.register
def _(part: StandardScaler, graph: Graph, x: str) -> str:
    """Subtract the mean, then divide by the scale, both in float32 as in scikit-learn, so the results are identical."""
    return graph("Div", graph("Sub", x, graph.constant(part.mean_)), graph.constant(part.scale_))


@values.register(LogisticRegression)
@values.register(LinearDiscriminantAnalysis)
@values.register(RidgeClassifier)
def _(part: Any, graph: Graph, x: str) -> str:
    """Compute decision values: (n, d) -> (n, C)."""
    return graph.linear(x, *_coef_and_intercept(part))


def _coef_and_intercept(part: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the coefficients (d, C) and the intercepts (C,) of a linear classifier.

    For two classes, scikit-learn has one decision value s per row, which becomes -s / 2 and s / 2: the softmax of these
    two is the sigmoid of s.
    """
    coef, intercept = np.atleast_2d(part.coef_), np.atleast_1d(part.intercept_)  # Ridge has (d,) for two classes
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return coef.T, intercept


@values.register
def _(part: KNeighborsClassifier, graph: Graph, x: str) -> str:
    """Count the votes of the nearest of N training rows: (n, d) -> (n, C), float64.

    The distance is 1 - cosine similarity, and a vote weighs 1 / distance. If neighbours are at distance 0, only they
    vote, with weight 1. The distances are float64, because rounding could swap two neighbours at almost the same
    distance, of which only one may be among the k nearest.
    """
    stored = graph.constant(part._fit_X, part._fit_X.dtype)  # (N, d)
    transposed = graph("Transpose", _unit_rows(graph, graph.double(stored)), perm=[1, 0])  # (d, N)
    zero, one = graph.constant(0, np.float64), graph.constant(1, np.float64)
    cosines = graph("MatMul", _unit_rows(graph, graph.double(x)), transposed)  # (n, N)
    all_distances = graph("Max", graph("Sub", one, cosines), zero)
    k = graph.constant([part.n_neighbors], np.int64)
    distances, neighbours = graph.many("TopK", 2, all_distances, k, axis=1, largest=0)  # (n, k) each
    weights = graph.reshape(_vote_weights(graph, distances, zero, one), 0, 1, -1)  # (n, 1, k)
    one_hot = graph.constant(np.eye(len(part.classes_))[part._y], np.float64)  # (N, C)
    return graph.reshape(graph("MatMul", weights, graph("Gather", one_hot, neighbours)), 0, -1)  # (n, k, C) gathered


def _vote_weights(graph: Graph, distances: str, zero: str, one: str) -> str:
    """Return 1 / distance (n, k); in rows with a distance of 0, 1 at these distances and 0 elsewhere."""
    is_zero = graph("Equal", distances, zero)
    inverse = graph("Div", one, graph("Where", is_zero, one, distances))  # without division by zero
    zeros = graph.double(is_zero)
    any_zero = graph("Greater", _row_sums(graph, zeros), zero)  # (n, 1)
    return graph("Where", any_zero, zeros, inverse)


def _unit_rows(graph: Graph, x: str) -> str:
    """Scale rows of x (n, d), float64, to length 1; a row of zeros stays as it is."""
    length = graph("Sqrt", _row_sums(graph, graph("Mul", x, x)))  # (n, 1)
    is_zero = graph("Equal", length, graph.constant(0, np.float64))
    return graph("Div", x, graph("Where", is_zero, graph.constant(1, np.float64), length))


def _row_sums(graph: Graph, x: str) -> str:
    """Sum each row: (n, d) -> (n, 1)."""
    return graph("ReduceSum", x, graph.constant([1], np.int64), keepdims=1)


@values.register
def _(part: SVC, graph: Graph, x: str) -> str:
    """Compute decision values: (n, d) -> (n, C), float64.

    For two classes, the one decision value s becomes -s / 2 and s / 2, as in `heads._scikit.scores_of`.
    """
    kernel = _rbf(part.support_vectors_, part._gamma, graph, graph.double(x))  # (n, S)
    if len(part.classes_) == 2:
        coef, intercept = part.dual_coef_[0], part.intercept_[0]
        return graph.linear(kernel, np.stack([-coef, coef], 1) / 2, np.array([-intercept, intercept]) / 2, np.float64)
    return _one_against_rest(graph, graph.linear(kernel, _pair_coefs(part), part.intercept_, np.float64), part)


@values.register
def _(part: Nystroem, graph: Graph, x: str) -> str:
    """Compute the kernel with each of the S sampled rows, and scale it: (n, d) -> (n, S), float64."""
    kernel = _rbf(part.components_, part.gamma, graph, graph.double(x))
    return graph.linear(kernel, part.normalization_.T, np.zeros(len(part.components_)), np.float64)


def _rbf(vectors: NDArray[np.float64], gamma: float, graph: Graph, x: str) -> str:
    """Compute the RBF kernel exp(-gamma |x - v|²) with each of S vectors v (S, d): (n, d) -> (n, S), float64.

    The exponent is expanded to (2 gamma x·v - gamma v·v) - gamma x·x, of which the first part is a linear layer.
    """
    squares = _row_sums(graph, graph("Mul", x, x))  # (n, 1) x·x
    linear = graph.linear(x, 2 * gamma * vectors.T, -gamma * (vectors**2).sum(1), np.float64)  # (n, S)
    return graph("Exp", graph("Sub", linear, graph("Mul", squares, graph.constant(gamma, np.float64))))


def _pair_coefs(part: SVC) -> NDArray[np.float64]:
    """Return the coefficient of each support vector in each one-against-one decision, (S, pairs).

    The order of pairs is that of libsvm: for three classes, (0, 1), (0, 2), (1, 2). libsvm stores the coefficients as
    `dual_coef_` (C - 1, S), with support vectors sorted by class. For a pair i < j, the coefficients of the support
    vectors of class i are in row j - 1, and those of class j are in row i:

        row   class 0   class 1   class 2
        0     (0, 1)    (0, 1)    (0, 2)
        1     (0, 2)    (1, 2)    (1, 2)
    """
    ends = np.concatenate([[0], np.cumsum(part.n_support_)])
    pairs = list(combinations(range(len(part.classes_)), 2))
    coefs = np.zeros((int(ends[-1]), len(pairs)))
    for number, (i, j) in enumerate(pairs):
        of_i, of_j = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        coefs[of_i, number] = part.dual_coef_[j - 1, of_i]
        coefs[of_j, number] = part.dual_coef_[i, of_j]
    return coefs


def _one_against_rest(graph: Graph, pairs: str, part: SVC) -> str:
    """Turn one-against-one decisions into decision values of classes: (n, pairs) -> (n, C), float64.

    As in scikit-learn's `_ovr_decision_function`, a class gets the number of pairs that it wins, plus the sum of its
    decisions, scaled to (-1/3, 1/3), which breaks ties. The first class of a pair wins unless the decision is negative.
    """
    n = len(part.classes_)
    first, second = (np.eye(n)[list(side)] for side in zip(*combinations(range(n), 2), strict=True))  # (pairs, C)
    zero, one, three = (graph.constant(number, np.float64) for number in (0, 1, 3))
    second_wins = graph.double(graph("Less", pairs, zero))  # (n, pairs) 0 or 1
    votes = graph.linear(second_wins, second - first, first.sum(0), np.float64)
    confidence = graph("MatMul", pairs, graph.constant(first - second, np.float64))
    bound = graph("Mul", graph("Add", graph("Abs", confidence), one), three)
    return graph("Add", votes, graph("Div", confidence, bound))


def _sum_leaves(booster: lightgbm.Booster, graph: Graph, x: str) -> str:
    """Sum the leaves of all trees by class: (n, d) -> (n, C).

    In each round, LightGBM fits one tree for each class. For two classes it fits one tree, for the second class; the
    sum of the first class is then 0.
    """
    dump = booster.dump_model()
    per_round = dump["num_tree_per_iteration"]
    first = 1 if per_round == 1 else 0  # class of the first tree of a round
    attributes: dict[str, list[Any]] = {}
    for number, tree in enumerate(dump["tree_info"]):
        for name, value in _tree_attributes(number, first + number % per_round, tree["tree_structure"]):
            attributes.setdefault(name, []).append(value)
    n_targets = first + per_round
    return graph(
        "TreeEnsembleRegressor", x, domain="ai.onnx.ml", n_targets=n_targets, post_transform="NONE", **attributes
    )


def _tree_attributes(tree: int, target: int, root: Node) -> Iterator[tuple[str, Any]]:
    """Return the values that a tree adds to the attributes of TreeEnsembleRegressor, as pairs of name and value.

    The attributes are lists: those called `nodes_…` have an element for each node of all trees, and those called
    `target_…` have an element for each leaf. `target` is the class to whose sum the leaves of the tree are added.
    """
    nodes = list(_walk(root))
    numbers = {id(node): number for number, node in enumerate(nodes)}
    for number, node in enumerate(nodes):
        leaf = "leaf_value" in node
        yield "nodes_treeids", tree
        yield "nodes_nodeids", number
        yield "nodes_modes", "LEAF" if leaf else "BRANCH_LEQ"
        yield "nodes_featureids", 0 if leaf else node["split_feature"]
        yield "nodes_values", 0.0 if leaf else float(below(node["threshold"]))
        yield "nodes_truenodeids", 0 if leaf else numbers[id(node["left_child"])]
        yield "nodes_falsenodeids", 0 if leaf else numbers[id(node["right_child"])]
        if leaf:
            yield "target_treeids", tree
            yield "target_nodeids", number
            yield "target_ids", target
            yield "target_weights", float(node["leaf_value"])


def _walk(node: Node) -> Iterator[Node]:
    """Return a node and all nodes below it, in depth-first order, left before right.

    The function is not recursive, because a tree can be deeper than Python's stack.
    """
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        if "leaf_value" not in node:
            pending += [node["right_child"], node["left_child"]]


def splits(booster: lightgbm.Booster) -> dict[int, list[float]]:
    """Return the thresholds of all trees, by the number of the feature that is compared."""
    thresholds: dict[int, list[float]] = {}
    for tree in booster.dump_model()["tree_info"]:
        for node in _walk(tree["tree_structure"]):
            if "threshold" in node:
                thresholds.setdefault(node["split_feature"], []).append(node["threshold"])
    return thresholds


def below(threshold: float) -> np.float32:
    """Return the largest float32 that is not larger than a threshold.

    Thresholds of LightGBM are float64, those of ONNX are float32. For a float32 x, `x <= threshold` and
    `x <= below(threshold)` are equivalent. The float32 nearest to the threshold would be wrong if it is above the
    threshold: an x equal to it would go to the other child.
    """
    with np.errstate(over="ignore"):  # LightGBM uses 1e300 as infinity
        near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))
