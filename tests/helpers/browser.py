"""A real browser, what a page holds, and text that must never run in one."""

import contextlib
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

HOSTILE = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\" onload='alert(1)' {{7*7}} &amp;"
BROWSERS = [path for name in ("chromium", "google-chrome") if (path := shutil.which(name))]
ARGUMENTS = [f"--{name}" for name in ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")]
EMPTY = {"meta", "link", "br", "img", "input"}


class Tags(HTMLParser):
    """The elements of a page with their attributes, its text, and what is not closed as it was opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.crossed: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api")
    if not BROWSERS:
        pytest.skip("no chromium here")
    with sync.sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=BROWSERS[0], args=ARGUMENTS)
        yield opened
        opened.close()


def watched(chromium: Any) -> tuple[Any, list[str]]:
    """A page of 360 px, and what it asks for or complains of; data URIs aside."""
    page = chromium.new_page(viewport={"width": 360, "height": 800})
    heard: list[str] = []
    page.on("request", lambda request: heard.append(request.url) if not request.url.startswith("data:") else None)
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    return page, heard
