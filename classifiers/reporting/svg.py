"""SVG elements as text. Texts and attributes are escaped, so labels cannot draw; numbers have two decimal places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 340.0  # default width of a figure in units: text of 12 units is then readable on a phone


def el(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element. `class_` becomes `class`, `text_anchor` becomes `text-anchor`; None omits an attribute."""
    given = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None]
    written = Markup("").join(Markup(' {}="{}"').format(key, _attribute(value)) for key, value in given)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, Markup("").join(children))


def figure(width: float, height: float, description: str, *children: str, class_: str | None = None) -> Markup:
    """Return a figure. `description` is for screen readers, and contains the numbers of the figure."""
    view = f"0 0 {number(width)} {number(height)}"
    return el("svg", *children, viewBox=view, role="img", aria_label=description, class_=class_)


def text(x: float, y: float, content: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """Return a line of text; `anchor` is start, middle or end."""
    return el("text", content, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return el("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Return a line through points."""
    return el("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), class_=class_)


def dot(x: float, y: float, radius: float, class_: str, title: str = "") -> Markup:
    """Return a disc. `title` is its tooltip."""
    return el("circle", *([el("title", title)] if title else []), cx=x, cy=y, r=radius, class_=class_)


def box(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> Markup:
    """Return a rectangle. `title` is its tooltip."""
    children = [el("title", title)] if title else []
    return el("rect", *children, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_)


def number(value: float) -> str:
    """Return a number with at most two decimal places: `12.34`, `12.3`, `12`; never `-0`."""
    return "0" if abs(value) < 0.005 else f"{value:.2f}".rstrip("0").rstrip(".")


def shorten(content: str, length: int) -> str:
    """Return a text of at most `length` characters: the text itself, or its beginning with an ellipsis."""
    return content if len(content) <= length else content[: length - 1] + "…"


def ticks(high: float) -> list[float]:
    """Return 2 to 8 round numbers from 0 to at most `high`; [0.0] if `high` is not positive.

    `ticks(0.9)` returns [0, 0.2, 0.4, 0.6, 0.8].
    """
    if not high > 0:
        return [0.0]
    power = 10.0 ** len(str(int(high)))
    steps = (power * part / 10**digits for digits in range(9) for part in (5, 2, 1))
    step = next((step for step in steps if high / step >= 3), high)
    return [n * step for n in range(int(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Frame:
    """The plot area of a figure: it maps values to positions in the figure, in units."""

    x_range: tuple[float, float]  # values at the left and at the right edge of the plot area
    y_range: tuple[float, float]  # values at the bottom and at the top edge of the plot area
    width: float = WIDTH  # width of the figure
    height: float = 230.0  # height of the figure
    left: float = 44.0  # margins between the figure and the plot area
    right: float = 12.0
    top: float = 12.0
    bottom: float = 40.0

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Return the vertical position of a value. Positions grow downwards: a larger value has a smaller position."""
        low, high = self.y_range
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)

    def axes(self, x_name: str, y_name: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
        """Return both axes: horizontal grid lines, the numbers at the ticks, and the names."""
        floor, end = self.height - self.bottom, self.width - self.right
        parts = [line(self.left, self.y(v), end, self.y(v), "grid") for v in y_ticks]
        parts += [text(self.left - 6, self.y(v) + 4, f"{v:g}", "end", "tick") for v in y_ticks]
        parts += [text(self.x(v), floor + 16, f"{v:g}", "middle", "tick") for v in x_ticks]
        parts.append(text((self.left + end) / 2, self.height - 6, x_name, "middle", "axis"))
        turned = f"rotate(-90 11 {number((self.top + floor) / 2)})"
        middle = {"x": 11, "y": (self.top + floor) / 2, "text_anchor": "middle", "class_": "axis"}
        return Markup("").join([*parts, el("text", y_name, transform=turned, **middle)])


def _attribute(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)
