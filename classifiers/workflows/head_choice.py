"""The choice of the heads of a configuration, and of the view that each head reads.

    chosen_heads(["svm", "cnn"])                                  svm reads `pooled`, cnn reads `frames`
    chosen_heads(["svm", "cnn"], views=["layers+std"])            svm reads `layers+std`, cnn still reads `frames`
    chosen_heads(["svm", "cnn"], views=["layers+std", "frames:6"])    each reads the view of its own kind
    chosen_heads(["svm"], views=["frames:6"])                     ConfigError: svm reads one vector a clip

A view is of one of two kinds: one vector a clip, or frames. A head reads views of one kind only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from embedcache import ConfigError
from embedcache.encoder import FRAMES, Log, is_ragged

from .. import heads
from ..data.views import check_view
from ..evaluation.row_texts import registered_head
from ..heads import Head


def chosen_heads(names: Sequence[str], views: Sequence[str] = (), frames: int | None = None) -> list[Head]:
    """The heads called `names`, by default `heads.usual()`, each with the view that it reads.

    `views` replace the heads' own views: at most one of each kind. `frames` is the number of frames that clips are cut
    or padded to. Raises UnknownName for a head that does not exist, and ConfigError for two views of one kind, and for
    a view, or a number of frames, that none of the heads reads.
    """
    specs = [heads.get(name) for name in dict.fromkeys(names or heads.usual())]
    by_kind = _views_by_kind(views)
    for is_frames, view in by_kind.items():
        _require_reader(specs, is_frames, f"--view {view}")
    if frames:
        _require_reader(specs, True, f"--frames {frames}")
    return [_with_view(spec, by_kind) for spec in specs]


def quick_enough(specs: Sequence[Head], names: Sequence[str], n_clips: int, log: Log) -> list[Head]:
    """Return the heads without those that are too slow for a task of `n_clips` clips and are not among `names`.

    `log` receives a line if heads are left out, which says how to ask for them.
    """
    slow = [] if names else [spec for spec in specs if spec.max_clips is not None and n_clips > spec.max_clips]
    if slow:
        log(
            f"note: {', '.join(spec.name for spec in slow)}: left out, because the time grows with the square of the "
            f"{n_clips:,} clips. Heads that --head names are always run."
        )
    return [spec for spec in specs if spec not in slow]


def reads_one_vector(spec: Head) -> bool:
    """Whether a head, or the head that it is a variant of, reads one vector per clip, whatever `--view` puts into it.

    The other heads tell the layers or the frames of a clip apart.
    """
    return (registered_head(spec.name) or spec).view == "pooled"


def _views_by_kind(views: Sequence[str]) -> dict[bool, str]:
    """Return the views by kind; the key is whether a view consists of frames."""
    for view in views:
        check_view(view)
    by_kind = {is_ragged(view): view for view in views}
    if len(by_kind) < len(views):
        raise ConfigError(
            f"got --view {', '.join(views)}; wanted one view for heads that read one vector a clip, and one for heads "
            "that read frames. Join parts of one view with +, as in layers+std."
        )
    return by_kind


def _require_reader(specs: Sequence[Head], is_frames: bool, option: str) -> None:
    if not any(is_ragged(spec.view) == is_frames for spec in specs):
        kind = "frames" if is_frames else "one vector a clip"
        names = ", ".join(spec.name for spec in specs)
        raise ConfigError(f"got {option}, but none of the heads {names} reads {kind}. Leave the option out.")


def _with_view(spec: Head, by_kind: Mapping[bool, str]) -> Head:
    view = by_kind.get(is_ragged(spec.view), spec.view)
    if spec.view == FRAMES and ("+" in view or view == f"{FRAMES}:all"):
        raise ConfigError(f"got --view {view}, but {spec.name} reads the frames of one layer. Use {FRAMES}:N.")
    return replace(spec, view=view)
