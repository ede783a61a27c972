"""Display names of the vectors of a result: the encoder, and the view if it is not the default view of the head."""

from __future__ import annotations

from .. import heads

SUFFIXES = ("-calibrated", "-tuned")  # suffixes that wrappers append to the name of a head


def vectors_name(head: str, encoder: str, view: str) -> str:
    """Return the name of the vectors, such as `mfcc`, or `mfcc, layers+std` for a view selected with `--view`."""
    base = head
    for suffix in SUFFIXES:
        base = base.removesuffix(suffix)
    spec = heads.find(base)
    return f"{encoder}, {view}" if view and spec and view != spec.view else encoder
