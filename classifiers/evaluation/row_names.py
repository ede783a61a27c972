"""What a result's vectors are called: the encoder, and the view where it is not the head's own."""

from __future__ import annotations

from .. import heads

SUFFIXES = ("-calibrated", "-tuned")


def vectors(head: str, encoder: str, view: str) -> str:
    """`mfcc`; `mfcc, layers+std` where that is what was asked for with `--view`."""
    plain = head
    for suffix in SUFFIXES:
        plain = plain.removesuffix(suffix)
    spec = heads.find(plain)
    return f"{encoder}, {view}" if view and spec and view != spec.view else encoder
