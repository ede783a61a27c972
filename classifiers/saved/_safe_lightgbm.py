"""The text of a LightGBM model from a stranger, held to its own counts.

LightGBM believes every count and index of it: with one too large it writes beyond its memory as soon as it predicts.
"""

from __future__ import annotations

from typing import Any

MOST_LEAVES = 1 << 17  # of a tree: LightGBM's own limit
# The numbers of a tree in LightGBM's text: one a split, one a leaf, or a note on each leaf, which a stump may lack.
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


def sound_model(text: str) -> str:
    """The text, written anew from what was read of it. Raises ValueError or KeyError where it does not fit itself."""
    head, *trees = text.partition("end of trees")[0].split("Tree=")
    facts = _facts(head)
    classes, features = int(facts["num_class"]), len(facts["feature_names"].split())
    objective = "binary sigmoid:1" if classes == 1 else f"multiclass num_class:{classes}"
    counted = int(facts["num_tree_per_iteration"]) == classes and int(facts["max_feature_idx"]) == features - 1
    if not (counted and classes > 0 and facts["objective"] == objective and trees and len(trees) % classes == 0):
        raise ValueError("its trees do not fit their labels and features")
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
        lines += [f"Tree={number}", *_sound_tree(_facts(tree), features), "", ""]
    return "\n".join([*lines, "end of trees", ""])


def _sound_tree(facts: dict[str, str], features: int) -> list[str]:
    leaves = int(facts["num_leaves"])
    if not 0 < leaves <= MOST_LEAVES or (facts["num_cat"], facts["is_linear"]) != ("0", "0"):
        raise ValueError("it has trees of a kind or size that no head of ours grows")
    numbers: dict[str, list[Any]] = {
        name: [kind(word) for word in facts[name].split()] for name, (kind, _) in TREE.items()
    }
    lengths = {"split": {leaves - 1}, "leaf": {leaves}, "note": {leaves} if leaves > 1 else {0, 1}}
    if not all(len(numbers[name]) in lengths[part] for name, (_, part) in TREE.items()):
        raise ValueError("it has a tree with more or fewer numbers than leaves")
    used, ways = numbers["split_feature"], numbers["decision_type"]
    if not all(0 <= feature < features for feature in used) or not all(0 <= way < 16 and way % 2 == 0 for way in ways):
        raise ValueError("it has a tree that asks for features that there are not")
    # A split leads to a leaf, -1 to -leaves, or to a later split: every way ends.
    pairs = zip(numbers["left_child"], numbers["right_child"], strict=True)
    if not all(n < child < leaves - 1 or -leaves <= child < 0 for n, pair in enumerate(pairs) for child in pair):
        raise ValueError("it has a tree whose branches lead nowhere")
    lists = [f"{name}={' '.join(map(repr, values))}" for name, values in numbers.items()]
    return [f"num_leaves={leaves}", "num_cat=0", *lists, "is_linear=0", f"shrinkage={float(facts['shrinkage'])!r}"]


def _facts(lines: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)
