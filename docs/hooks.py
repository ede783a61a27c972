"""Hooks of the documentation site, which generate its reference each time the site is built.

mkdocs calls `on_files`, which makes the page of commands from their own help; mkdocstrings reads classes through
`Fields`, which shows the fields of a dataclass as in the source, with the comments that describe them.
"""

from __future__ import annotations

import html
import re
from typing import Any

import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

import cli

SHORTENED = re.compile(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n")  # lists of commands, whose help typer cuts off


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of commands."""
    ser = typer.main.get_command(cli.app)
    text = get_docs_for_click(obj=ser, ctx=typer.Context(ser, info_name="ser"), name="ser", title="Commands")
    files.append(File.generated(config, "reference/commands.md", content=escaped(SHORTENED.sub("", text))))
    return files


def escaped(text: str) -> str:
    """Markdown whose prose holds no HTML: `<dataset>` in a help text is no tag. Between backticks it is none anyway."""
    parts = text.split("`")
    return "`".join(part if number % 2 else html.escape(part, quote=False) for number, part in enumerate(parts))


class Fields(griffe.Extension):
    """The fields of dataclasses, as part of their docstrings."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Show them."""
        made = any("dataclass" in str(decorator.value) for decorator in cls.decorators)
        fields = [a.source for a in cls.attributes.values() if a.annotation and "property" not in a.labels]
        if made and cls.docstring and fields:
            cls.docstring.value += "\n\n```python\n" + "\n".join(fields) + "\n```"
