"""The size and the look of figures, for screens and for papers, and how they become files.

A figure for a paper is 84 or 174 mm wide, which is a column or a page of most journals, with text of 7 to 8 points, and
has no title, since the caption of the paper says what it shows. PDF files embed their fonts as TrueType (Type 42),
which publishers demand instead of Type 3. SVG files have their text as paths: matplotlib cannot embed fonts in them,
and with another font names would no longer fit. Files have no date and no random ids, so equal predictions give equal
files.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedcache.files.atomic import atomic_write

from ..palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = LIGHT["ink"]
COLUMN, PAGE = 84.0, 174.0  # widths in mm
MILLIMETRES = 25.4  # of an inch
FORMATS = ("png", "svg", "pdf")
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
TEXT = {"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK}
FILES = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "ser", "axes.unicode_minus": False}
SMALL = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.handlelength": 1.5,
}


@dataclass(frozen=True)
class Style:
    """How figures are drawn."""

    for_papers: bool = False  # at the width of a column or a page, with small text and fine lines
    titled: bool = True
    dpi: int = 150  # of PNG files
    formats: tuple[str, ...] = ("png",)

    def settings(self) -> AbstractContextManager[None]:
        """Return a context in which matplotlib has the settings of this style."""
        from matplotlib import rc_context

        return rc_context({**TEXT, **FILES, **(SMALL if self.for_papers else {})})

    def figure(self, width: float, height: float, over_page: bool = False) -> Figure:
        """Return an empty figure of a size in inches; for a paper, of that shape and of a width in COLUMN or PAGE."""
        from matplotlib.figure import Figure

        wanted = (PAGE if over_page else COLUMN) / MILLIMETRES
        scale = wanted / width if self.for_papers else 1.0
        return Figure(figsize=(scale * width, scale * height), layout="constrained", dpi=self.dpi)

    def title(self, figure: Figure, lines: Sequence[str]) -> None:
        """Write the title of a figure above it, if figures of this style have titles."""
        if self.titled:
            figure.suptitle("\n".join(lines), fontsize="medium", color=INK)


SCREEN = Style()
PAPER = Style(for_papers=True, titled=False, dpi=300, formats=FORMATS)


def save(figure: Figure, path: Path, style: Style = SCREEN) -> list[Path]:
    """Write a figure to `path` with the suffix of each format of a style, and return the paths.

    The same figure gives the same bytes, as long as matplotlib and its fonts stay the same.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a label with a dollar sign is not a formula
    paths = [path.with_name(f"{path.name}.{suffix}") for suffix in style.formats]
    for target in paths:
        write(figure, target)
    return paths


def write(figure: Figure, path: Path) -> Path:
    """Write a figure in the format that the suffix of a file names, PNG if it names none, and return the path."""
    kind = path.suffix.removeprefix(".").lower()
    kind = kind if kind in FORMATS else "png"
    with atomic_write(path, "wb") as file, warnings.catch_warnings(), SCREEN.settings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format=kind, metadata=METADATA[kind])
    return path


def hide_top_and_right(axes: Any) -> None:
    """Draw only the axes of a plot that have numbers."""
    axes.spines[["top", "right"]].set_visible(False)
