"""Checks of the text of a LightGBM model from an untrusted source.

LightGBM does not check the counts and indices in the text of a model. If one is too large, LightGBM writes outside its
memory when it predicts.
"""

from __future__ import annotations

from typing import Any

MAX_LEAVES = 1 << 17  # largest number of leaves of a tree, as in LightGBM
# The lists of numbers of a tree in LightGBM's text, with the type of the numbers and the length of the list. "split" is
# one number per split, "leaf" one per leaf, "note" one per leaf, which a tree with a single leaf may lack.
TREE = {
    "split_feature": (int, "split"),
    "split_gain": (float, "split"),
    "threshold": (float, "split"),
    "decision_type": (int, "split"),
    "left_child": (int, "split"),
    "right_child": (int, "split"),
    "leaf_value": (float, "leaf"),
    "leaf_weight": (float, "note"),
    "leaf_count": (int, "note"),
    "internal_value": (float, "split"),
    "internal_weight": (float, "split"),
    "internal_count": (int, "split"),
}


def checked_model(text: str) -> str:
    """Return the text of a model, written from the checked values of the given text.

    Raises ValueError or KeyError if the values are missing or inconsistent.
    """
    header, *trees = text.partition("end of trees")[0].split("Tree=")
    fields = _fields(header)
    classes, features = int(fields["num_class"]), len(fields["feature_names"].split())
    objective = "binary sigmoid:1" if classes == 1 else f"multiclass num_class:{classes}"
    counts_agree = int(fields["num_tree_per_iteration"]) == classes and int(fields["max_feature_idx"]) == features - 1
    if not (counts_agree and classes > 0 and fields["objective"] == objective and trees and len(trees) % classes == 0):
        raise ValueError("the numbers of its trees, labels and features are inconsistent")
    lines = [
        "tree",
        "version=v4",
        f"num_class={classes}",
        f"num_tree_per_iteration={classes}",
        "label_index=0",
        f"max_feature_idx={features - 1}",
        f"objective={objective}",
        f"feature_names={' '.join(f'Column_{n}' for n in range(features))}",
        f"feature_infos={' '.join(['none'] * features)}",
        "",
    ]
    for number, tree in enumerate(trees):
        lines += [f"Tree={number}", *_checked_tree(_fields(tree), features), "", ""]
    return "\n".join([*lines, "end of trees", ""])


def _checked_tree(fields: dict[str, str], features: int) -> list[str]:
    """Return the lines of a tree, written from the checked values of its fields."""
    leaves = int(fields["num_leaves"])
    if not 0 < leaves <= MAX_LEAVES or (fields["num_cat"], fields["is_linear"]) != ("0", "0"):
        raise ValueError("it has trees of a kind or size that no head of ser has")
    numbers: dict[str, list[Any]] = {
        name: [kind(word) for word in fields[name].split()] for name, (kind, _) in TREE.items()
    }
    lengths = {"split": {leaves - 1}, "leaf": {leaves}, "note": {leaves} if leaves > 1 else {0, 1}}
    if not all(len(numbers[name]) in lengths[part] for name, (_, part) in TREE.items()):
        raise ValueError("it has a tree whose numbers of splits and leaves are inconsistent")
    if not all(0 <= feature < features for feature in numbers["split_feature"]):
        raise ValueError("it has a tree that splits on features that do not exist")
    if not all(0 <= kind < 16 and kind % 2 == 0 for kind in numbers["decision_type"]):  # odd: a categorical split
        raise ValueError("it has a tree with a kind of split that no head of ser has")
    # A child is a leaf, -1 to -leaves, or a later split. So there are no cycles.
    pairs = zip(numbers["left_child"], numbers["right_child"], strict=True)
    if not all(n < child < leaves - 1 or -leaves <= child < 0 for n, pair in enumerate(pairs) for child in pair):
        raise ValueError("it has a tree with a branch to a node that does not exist")
    lists = [f"{name}={' '.join(map(repr, values))}" for name, values in numbers.items()]
    return [f"num_leaves={leaves}", "num_cat=0", *lists, "is_linear=0", f"shrinkage={float(fields['shrinkage'])!r}"]


def _fields(lines: str) -> dict[str, str]:
    """Return the values of lines `name=value`, by name."""
    return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)
