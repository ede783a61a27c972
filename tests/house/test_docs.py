"""The documentation site: strictly built, asks for nothing outside, names everything; each page runs as it stands."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from helpers.browser import browser, watched
from helpers.pages import blocks, run_page
from helpers.places import REPOSITORY, Ser

import classifiers
import cli
import embedcache

DOCS = REPOSITORY / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.glob("**/*.md"))}
RUN = ("sh", "python", "output")  # what `run_page` runs, or holds to what was said
SHOWN = ("csharp", "js", "py", "text", "toml", "yaml")
SAID = {"finetuning.md": "the encoder was trained on test clips or their speakers"}  # at a page's end
TASKS = tomllib.loads((DOCS / "commands.toml").read_text())
EXAMPLES = {name: text for found in TASKS.values() for name, text in found.items() if name != "about"}
NEED_A_NETWORK = {"download"}
BUILT = pytest.mark.xdist_group("site")  # in one process: the site is built once
RUNNING = [name for name, text in PAGES.items() if any(block.language in RUN for block in blocks(text))]


@pytest.mark.long
@pytest.mark.parametrize("name", RUNNING)
def test_every_command_and_snippet_of_a_page_runs(name: str, ser: Ser, world: dict[str, str], tmp_path: Path) -> None:
    done = run_page(PAGES[name], ser, world, tmp_path)
    assert SAID.get(name, "") in " ".join(done[-1].stdout.split())  # sentences are wrapped


@pytest.mark.parametrize("name", PAGES)
def test_no_block_hides_from_being_run(name: str) -> None:
    found = blocks(PAGES[name])
    assert PAGES[name].count("```") == 2 * len(found), "a fence that is indented, open, or has no language"
    assert {block.language for block in found} <= {*RUN, *SHOWN}


def test_each_table_of_other_programs_has_all_of_them_in_one_order() -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", PAGES["others.md"], re.MULTILINE)
    programs = [[row.split("|")[1].strip(" `").split("]")[0].lstrip("[") for row in t.splitlines()[2:]] for t in tables]
    assert len(tables) == 6
    assert all(found == programs[0] for found in programs), programs
    assert len(programs[0]) == 8


def build(project: Path, folder: Path) -> subprocess.CompletedProcess:
    """Build the site as `make docs` does. Not with --quiet: what is not said is no error to mkdocs, either."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=project, env=quiet)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site."""
    folder = tmp_path_factory.mktemp("docs")
    done = build(REPOSITORY, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.long
def test_a_broken_link_breaks_the_build(tmp_path: Path) -> None:
    for name in ("embedcache", "classifiers"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy(REPOSITORY / "mkdocs.yml", tmp_path)
    shutil.copytree(DOCS, tmp_path / "docs")
    links = ("(no.md)", "(index.md#no)", "(/index.md)", "(heads)", "[embedcache.Nobody]")
    (tmp_path / "docs" / "index.md").write_text("".join(f"# Home\n\n[link]{link}\n" for link in links))
    (tmp_path / "docs" / "stray.md").write_text("# In no menu\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    for wanted in (*(link.strip("()[]") for link in links), "stray.md"):
        assert wanted in done.stderr


@BUILT
def test_pages_ask_for_nothing_outside(site: Path) -> None:
    """Links that a reader may follow are no requests: `a` and nothing else names another host."""
    for path in site.glob("**/*.html"):
        for tag, attributes in re.findall(r"<(\w+)\s([^>]*)>", path.read_text()):
            asked = re.findall(r'(?:src|srcset|href|action|data)="?(?:\w+:)?//', attributes)
            assert tag == "a" or not asked, (path.name, tag, attributes)
    for path in site.glob("**/*.css"):
        assert not re.findall(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", path.read_text()), path.name


@BUILT
def test_the_reference_has_every_public_name(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text()
    anchors = set(re.findall(r'id="([\w.]+)"', page))
    for package in (embedcache, classifiers):
        for name in package.__all__:
            thing, called = getattr(package, name), f"{package.__name__}.{name}"
            home = f"{getattr(thing, '__module__', called)}.{getattr(thing, '__qualname__', '')}"
            assert {called, home} & anchors or f"<code>{called}</code>" in page, called


@BUILT
def test_the_reference_has_every_command_and_option(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text()

    def check(command: typer.core.TyperGroup, called: str) -> None:
        assert hasattr(command, "commands") or f'id="{called}"' in page
        shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
        for option in {option for parameter in shown for option in parameter.opts if option[0] == "-"}:
            assert f"<code>{option}" in page, (called, option)
        for name, below in getattr(command, "commands", {}).items():
            check(below, f"{called}-{name}")

    ser = typer.main.get_command(cli.app)
    for name, command in ser.commands.items():
        check(command, f"ser-{name}")


def commands_of(group: typer.core.TyperGroup, before: str = "") -> Iterator[tuple[str, str]]:
    """The commands of `ser`, `cache ls` and the like too, each with its task: that of its group, if it has one."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((below, command.rich_help_panel) for below, _ in commands_of(command, f"{name} "))
        else:
            yield f"{before}{name}", command.rich_help_panel


def test_each_command_has_the_same_task_in_the_help_and_in_the_reference() -> None:
    """A new command needs `rich_help_panel` in cli.py, and a line in docs/commands.toml."""
    listed = {name: task for task, found in TASKS.items() for name in found if name != "about"}
    assert listed == dict(commands_of(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_of_a_command_parses(name: str) -> None:
    for line in EXAMPLES[name].strip().splitlines():
        words = shlex.split(line)
        command = typer.main.get_command(cli.app)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(1)]
        assert words[0] == "ser"
        assert line.startswith(f"ser {name}")
        command.make_context(name, words[1:])


@pytest.mark.long
def test_the_examples_run_in_their_order(ser: Ser, world: dict[str, str], tmp_path: Path) -> None:
    lines = "\n".join(text.strip() for name, text in EXAMPLES.items() if name not in NEED_A_NETWORK)
    run_page(f"```sh\n{lines}\n```\n", ser, world, tmp_path)


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The address of the site, from a server on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@BUILT
@pytest.mark.long
def test_in_a_browser(site: Path, served: str) -> None:
    """No errors, no request to another host, no page wider than a telephone."""
    with browser() as chromium:
        page, heard = watched(chromium)
        for path in sorted(site.glob("**/*.html")):
            page.goto(f"{served}/{path.relative_to(site)}", wait_until="load")
            assert page.evaluate("document.documentElement.scrollWidth") == 360, path.name
    assert [said for said in heard if not said.startswith(served)] == []
