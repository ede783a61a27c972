"""Hooks of the documentation site, which generate its reference each time the site is built.

mkdocs calls `on_files`, which makes the page of commands from their own help; mkdocstrings reads classes through
`Fields`, which shows the fields of a dataclass as in the source, with the comments that describe them. Each notebook
becomes a page of its text and code, with a link to the file.
"""

from __future__ import annotations

import html
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

import cli

WORD = re.compile(r"^\| ([\w -]+) \|", re.MULTILINE)  # first cell of a row
TASKS = tomllib.loads((Path(__file__).parent / "commands.toml").read_text(encoding="utf-8"))
INTRODUCTION = """# Commands

All commands by task, each with an example and its options. In a terminal, `ser --help` lists the tasks, and
`ser COMMAND --help` the options. `ser --version` prints the version, and `ser --install-completion` installs
completion for the shell. In the examples, `DIR` is the folder of RAVDESS, `TESS` that of TESS, `MINE` one of your
own, and `CLIP.wav` a recording.

| task | commands |
|---|---|
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of commands, and one for each notebook."""
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page_of(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Give each word of the glossary an anchor, such as `words.md#uar`."""
    if page.file.src_uri != "explanation/words.md":
        return markdown
    words, rest = markdown.split("## Views", 1)
    return WORD.sub(lambda found: f"| {found[1]} {{#{slug(found[1])}}} |", words) + "## Views" + rest


def commands_page() -> str:
    """Return the page of commands: a table of the tasks, then a section for each."""
    return INTRODUCTION + "".join(map(row, TASKS)) + "".join(map(sections, TASKS))


def examples(task: str) -> dict[str, str]:
    """Return the commands of a task, each with its example."""
    return {name: text for name, text in TASKS[task].items() if name != "about"}


def row(task: str) -> str:
    """Return the row of a task."""
    commands = ", ".join(f"[`{name}`](#ser-{slug(name)})" for name in examples(task))
    return f"| [{task}](#{slug(task)}) | {commands} |\n"


def sections(task: str) -> str:
    """Return the section of a task, and those of its commands."""
    commands = "".join(section(name, text) for name, text in examples(task).items())
    return f"\n## {task}\n\n{TASKS[task]['about']}\n\n{commands}"


def section(name: str, example: str) -> str:
    """Return the help of a command, with its example before its usage."""
    command: Any = typer.main.get_command(cli.app)
    for word in name.split():
        command = command.commands[word]
    called = f"ser {name}"
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name=called), indent=2, name=called)
    about, usage = escaped(text).split("**Usage**", 1)
    return f"{about}```sh\n{example.strip()}\n```\n\n**Usage**{usage}"


def slug(text: str) -> str:
    """Return the anchor of a heading."""
    return text.lower().replace(" ", "-")


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
