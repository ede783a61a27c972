"""Texts for LaTeX: names with any characters, escaped so that LaTeX prints them as they are."""

from __future__ import annotations

import re
import unicodedata

from embedcache.text import one_line

SPECIAL = {
    **{char: f"\\{char}" for char in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # not ", which German and other languages of babel make a command
}
SYMBOLS = {
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "\u00a0": "~",
    "†": r"$\dagger$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": "$-$",
    "·": r"$\cdot$",
    "α": r"$\alpha$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "¡": "!`",
    "¿": "?`",
}
# Accents that LaTeX has in every encoding of fonts, by their combining character.
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
    "\u0331": "b",
}
CLUSTER = re.compile(f"(.)([{''.join(ACCENTS)}]*)")  # a character with its accents
# Between two of these characters, as in --, LaTeX would print one other character.
LIGATURE = re.compile("(?<=-)(?=-)|(?<=,)(?=,)|(?<=')(?=')|(?<=[`?!])(?=`)")


def latex_text(text: str) -> str:
    """Return a text as LaTeX source: `my_encoder` becomes `my\\_encoder`.

    Control characters become visible escapes, as in messages. Characters that LaTeX's usual fonts lack stay as they
    are, see `needs_fonts`.
    """
    parts = LIGATURE.split(unicodedata.normalize("NFD", one_line(text)))
    source = "{}".join(CLUSTER.sub(lambda found: _source(*found.groups()), part) for part in parts)
    return unicodedata.normalize("NFC", source)


def needs_fonts(source: str) -> str:
    """Return the characters of a LaTeX source, sorted, that LaTeX's usual fonts lack, such as Chinese ones."""
    return "".join(sorted({char for char in source if not char.isascii()}))


def _source(char: str, accents: str) -> str:
    """Return the source of a character with combining accents."""
    if accents and not char.isascii():
        return char + accents
    source = f"\\{char}" if accents and char in "ij" else SPECIAL.get(char) or SYMBOLS.get(char) or char
    for accent in accents:  # they stand on an i or a j without a dot
        source = f"\\{ACCENTS[accent]}{{{source}}}"
    return source
