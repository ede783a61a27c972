"""Hooks of the documentation site, which generate its reference each time the site is built.

mkdocs calls `on_files`, which makes the page of commands from their own help; mkdocstrings reads classes through
`Fields`, which shows the fields of a dataclass as in the source, with the comments that describe them. Each notebook
becomes a page of its text and code, with a link to the file.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

import cli

SHORTENED = re.compile(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n")  # lists of commands, whose help typer cuts off


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of commands, and one for each notebook."""
    ser = typer.main.get_command(cli.app)
    text = get_docs_for_click(obj=ser, ctx=typer.Context(ser, info_name="ser"), name="ser", title="Commands")
    files.append(File.generated(config, "reference/commands.md", content=escaped(SHORTENED.sub("", text))))
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page_of(path)))
    return files


def page_of(notebook: Path) -> str:
    """Return the cells of a notebook as Markdown, after a line that says how to run it."""
    cells = [("".join(cell["source"]), cell["cell_type"]) for cell in json.loads(notebook.read_text("utf-8"))["cells"]]
    parts = [f"```python\n{source}\n```" if kind == "code" else source for source, kind in cells]
    run = f"[Download this notebook]({notebook.name}), and run it with `jupyter lab {notebook.name}`."
    return "\n\n".join([parts[0], run, *parts[1:]])


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
