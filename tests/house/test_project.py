"""The project around the code: pinned libraries, no path of a machine, links that lead somewhere."""

import re
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers.places import REPOSITORY, tracked_files

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("artifacts/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
WORD = re.compile(r"^\| ([\w -]+) \|", re.MULTILINE)  # as `docs/hooks.py` has it


def test_torch_is_the_one_that_is_pinned() -> None:
    """Some packages swap torch for another build without a word."""
    pins = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().split() if "==" in line)
    assert version("torch").partition("+")[0] == pins["torch"]
    assert version("transformers") == pins["transformers"]


def test_no_path_of_a_machine_stands_in_the_project() -> None:
    """The folder in which the project lies here, and those that are usual, stand in no file."""
    files = tracked_files()
    assert len(files) > 200
    wrong = re.compile(rb"/work/|/home/(?!me/)[a-z]+/|/Users/[A-Z]|/root/")
    own = re.escape(str(REPOSITORY)).encode()
    for path in files:
        data = path.read_bytes()
        assert path == Path(__file__) or not wrong.search(data), path
        assert not re.search(own + rb"\b", data), path


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them; and of the words of the glossary."""
    text = page.read_text()
    words = WORD.findall(text) if page.name == "words.md" else []
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in [*HEADING.findall(text), *words]
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        target, _, anchor = unquote(link).partition("#")
        if target.startswith(("http:", "https:", "mailto:")) or re.match(r"(../)*(reference|notebooks)/", target):
            continue  # pages that are made while the site is built; a test of the site checks links to them
        there = (page.parent / target) if target else page
        assert there.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {link}"


def test_the_readme_has_links_and_few_words() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert len(LINK.findall(text)) > 10
    assert len(text.split()) <= 1200
