"""Names in LaTeX: every character is printed as it is, and none is a command."""

import re
import string
from pathlib import Path

import pytest
from helpers.latex import HAS_LATEX, compiled, printed
from hypothesis import given
from hypothesis import strategies as st

from classifiers.data.latex_text import ACCENTS, SPECIAL, SYMBOLS, latex_text, needs_fonts

COMMAND = re.compile(r"\\[a-zA-Z]+(\{\})?|\\.|\$[^$]*\$")
PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " "


def read_back(source: str) -> str:
    """Return what LaTeX prints for the source of an ASCII text."""
    characters = {source: char for char, source in SPECIAL.items()}
    pattern = re.compile("|".join(map(re.escape, sorted(characters, key=len, reverse=True))) + "|{}")
    return pattern.sub(lambda found: characters.get(found[0], ""), source)


@given(st.text(alphabet=PRINTABLE))
def test_an_ascii_text_is_printed_as_it_is(text: str) -> None:
    assert read_back(latex_text(text)) == text


@given(st.text())
def test_no_character_of_a_name_is_a_command(text: str) -> None:
    """After commands are taken out, no special character is left, and braces are in pairs."""
    source = latex_text(text)
    assert not set(COMMAND.sub("", source)) & set('#$%&_\\^"\n\r')
    plain = re.sub(r"\\[{}]", "", source)
    depth = 0
    for char in plain:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("my_encoder_v2", r"my\_encoder\_v2"),
        ("50% & #1", r"50\% \& \#1"),
        ("~^\\{}", r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{\}"),
        ("a--b", "a-{}-b"),
        ("Müller ï ệ Łódź", r"M\"{u}ller \"{\i} \^{\d{e}} \L{}\'{o}d\'{z}"),
        ("u\u0308", r"\"{u}"),
        ("two\nlines", r"two\textbackslash{}nlines"),
        ("漢", "漢"),
    ],
)
def test_texts(text: str, source: str) -> None:
    assert latex_text(text) == source


def test_characters_that_the_usual_fonts_lack_are_known() -> None:
    assert needs_fonts(latex_text("Straße, α ≤ 1 – naïve")) == ""
    assert needs_fonts(latex_text("漢字 und ą")) == "ą字漢"


@HAS_LATEX
def test_pdflatex_prints_every_character(tmp_path: Path) -> None:
    accents = [f"{base}{accent}" for accent in ACCENTS for base in "ceij"]
    lines = [PRINTABLE, "".join(SYMBOLS), "".join(accents), "??``!`", "[a] *", *SPECIAL]
    log = compiled("\n\n".join(f"x {latex_text(line)}" for line in lines), tmp_path)
    assert "Warning: " not in log.replace("LaTeX Font Warning: ", "")
    text = printed(tmp_path)
    for shown in (string.digits, string.ascii_uppercase, "[\\]", "{|}~", "#$%&"):
        assert shown in text.replace("ˆ", "^").replace("˜", "~")
