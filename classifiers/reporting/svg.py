"""SVG by pieces. Every text and attribute is escaped, so that a label can draw nothing; numbers have two digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 340.0  # of a figure, in its own units: the text of 12 units is readable on a telephone


def el(name: str, *children: str, **attributes: object) -> Markup:
    """One element; `class_` is `class`, `text_anchor` is `text-anchor`, None is left out."""
    given = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None]
    said = Markup("").join(Markup(' {}="{}"').format(key, _short(value)) for key, value in given)
    return Markup("<{0}{1}>{2}</{0}>").format(name, said, Markup("").join(children))


def figure(width: float, height: float, said: str, *children: str, class_: str | None = None) -> Markup:
    """A figure; `said` is what it tells those who do not see it, its numbers included."""
    box = f"0 0 {number(width)} {number(height)}"
    return el("svg", *children, viewBox=box, role="img", aria_label=said, class_=class_)


def text(x: float, y: float, said: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """A line of text; `anchor` is start, middle or end."""
    return el("text", said, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return el("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A line through points."""
    return el("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), class_=class_)


def dot(x: float, y: float, radius: float, class_: str, title: str = "") -> Markup:
    """A disc; `title` shows under the pointer."""
    return el("circle", *([el("title", title)] if title else []), cx=x, cy=y, r=radius, class_=class_)


def box(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> Markup:
    """A rectangle."""
    children = [el("title", title)] if title else []
    return el("rect", *children, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_)


def number(value: float) -> str:
    """`12.34`, `12.3`, `12`; never `-0`."""
    return "0" if abs(value) < 0.005 else f"{value:.2f}".rstrip("0").rstrip(".")


def cut(said: str, most: int) -> str:
    """The text, or its beginning and a dot-dot-dot."""
    return said if len(said) <= most else said[: most - 1] + "…"


def ticks(high: float) -> list[float]:
    """Round numbers from 0 to at most `high`, three to six of them."""
    if not high > 0:
        return [0.0]
    power = 10.0 ** len(str(int(high)))
    steps = (power * part / 10**digits for digits in range(9) for part in (5, 2, 1))
    step = next((step for step in steps if high / step >= 3), high)
    return [n * step for n in range(int(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Frame:
    """The plot area of a figure, and where values lie in it. Both axes begin at their first value."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: float = WIDTH
    height: float = 230.0
    left: float = 44.0
    right: float = 12.0
    top: float = 12.0
    bottom: float = 40.0

    def x(self, value: float) -> float:
        """Where a value lies, in the figure's units."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Where a value lies, in the figure's units; upwards."""
        low, high = self.y_range
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)

    def axes(self, x_name: str, y_name: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
        """Grid lines, numbers and names."""
        floor, end = self.height - self.bottom, self.width - self.right
        parts = [line(self.left, self.y(v), end, self.y(v), "grid") for v in y_ticks]
        parts += [text(self.left - 6, self.y(v) + 4, f"{v:g}", "end", "tick") for v in y_ticks]
        parts += [text(self.x(v), floor + 16, f"{v:g}", "middle", "tick") for v in x_ticks]
        parts.append(text((self.left + end) / 2, self.height - 6, x_name, "middle", "axis"))
        turned = f"rotate(-90 11 {number((self.top + floor) / 2)})"
        middle = {"x": 11, "y": (self.top + floor) / 2, "text_anchor": "middle", "class_": "axis"}
        return Markup("").join([*parts, el("text", y_name, transform=turned, **middle)])


def _short(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)
