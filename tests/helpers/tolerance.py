"""How far numbers may differ that two processes, or two processors, compute in float32."""

from __future__ import annotations

from typing import Any

import pytest

# float32 has 7 digits; sums of a thousand terms in another order keep 5 of them. An absolute bound is needed beside the
# relative one: the smallest probability of a softmax carries the error of the largest logit. 1e-5 is also what a vector
# may move by with its batch (`embedcache.checks.TOLERANCE`).
RELATIVE, ABSOLUTE = 1e-4, 1e-5


def close_to(expected: Any) -> Any:
    """What compares equal to numbers computed elsewhere, in another order or on another processor."""
    return pytest.approx(expected, rel=RELATIVE, abs=ABSOLUTE)
