"""The colours of the HTML report and of the PNG figures, by role.

`LIGHT` is for light backgrounds and for figures, `DARK` for dark backgrounds, `PAPER` for print. Texts have a contrast
of at least 4.5 to their backgrounds, and marks of at least 3 to `bg` (WCAG 2.2); tests check both.

Roles
-----
- Page: `bg` (background), `panel` and `warn` (boxes, and boxes with a warning), `line` (borders)
- Text: `ink`, `soft` (secondary text), `accent` (links), `warm` (warnings)
- Charts: `grid`, `accent` and `bar` (marks), `warm` (speaker-dependent scores), `train` and `held` (learning curves of
  training clips and of held-out speakers; the two differ for colour-blind readers and, on light backgrounds, in grey)
- Heat maps: `shade` (a share of 1, or a UAR of 1), `below` (a UAR far below chance), `line` (no score); the texts on
  them are `ink`

There are no colours for categories: groups are shown one by one in panels of their own, so no reader has to match a
colour with a legend. Colours that must be told apart are blue and orange, also for colour-blind readers; tests
simulate protanopia, deuteranopia and tritanopia.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: dict[str, str] = {
    "bg": "#fcfcfb",
    "panel": "#f3f4f5",
    "ink": "#1a1e23",
    "soft": "#545d67",
    "line": "#d3d8dd",
    "grid": "#e3e6e9",
    "accent": "#0b5c9e",
    "bar": "#4a8cc4",
    "train": "#b45309",
    "held": "#0b5c9e",
    "warm": "#a8440a",
    "warn": "#fdf0e4",
    "shade": "#5c9fd6",
    "below": "#e0996b",
}
DARK: dict[str, str] = {
    "bg": "#14171b",
    "panel": "#1d2126",
    "ink": "#e7eaed",
    "soft": "#a9b2bc",
    "line": "#3a414a",
    "grid": "#2a3037",
    "accent": "#74b7f7",
    "bar": "#4b8cc8",
    "train": "#f2a266",
    "held": "#74b7f7",
    "warm": "#f2a266",
    "warn": "#35240f",
    "shade": "#28659b",
    "below": "#8a5026",
}
PAPER = LIGHT | {
    "bg": "#ffffff",
    "ink": "#000000",
    "soft": "#444444",
    "line": "#bbbbbb",
    "grid": "#dddddd",
    "warn": "#ffffff",
}


def css_variables() -> str:
    """Return the CSS rules that define the colours as variables `--<role>`, for light, dark and paper."""
    return "\n".join(
        (
            _root("light dark", LIGHT),
            f"@media (prefers-color-scheme: dark) {{\n{_root('light dark', DARK)}\n}}",
            f"@media print {{\n{_root('light', PAPER)}\n}}",
        )
    )


def _root(scheme: str, colours: Mapping[str, str]) -> str:
    """Return a rule for `:root` with the colour scheme and the variables."""
    variables = " ".join(f"--{role}: {colour};" for role, colour in colours.items())
    return f":root {{ color-scheme: {scheme}; {variables} }}"
