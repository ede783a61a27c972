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
    "†": r"\textdagger{}",
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
# Between two of these characters, as in --, LaTeX would print one other character.
LIGATURE = re.compile("(?<=-)(?=-)|(?<=,)(?=,)|(?<=')(?=')|(?<=[`?!])(?=`)")


def latex_text(text: str) -> str:
    """Return a text as LaTeX source: `my_encoder` becomes `my\\_encoder`.

    Control characters become visible escapes, as in messages. Characters in `needs_fonts` stay as they are.
    """
    parts = LIGATURE.split(unicodedata.normalize("NFC", one_line(text)))
    return "{}".join("".join(map(_character, part)) for part in parts)


def needs_fonts(text: str) -> str:
    """Return the characters of a LaTeX source, sorted, that LaTeX's usual fonts lack, such as Chinese ones."""
    return "".join(sorted({char for char in text if not char.isascii()}))


def _character(char: str) -> str:
    if char in SPECIAL or char in SYMBOLS:
        return SPECIAL.get(char) or SYMBOLS[char]
    decomposed = unicodedata.normalize("NFD", char)
    base, accents = decomposed[0], decomposed[1:]
    if not accents or not base.isascii() or not set(accents) <= set(ACCENTS):
        return char
    source = f"\\{base}" if base in "ij" else base  # accents stand on letters without a dot
    for accent in accents:
        source = f"\\{ACCENTS[accent]}{{{source}}}"
    return source
