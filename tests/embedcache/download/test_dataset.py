"""Many files: what cannot be had does not stop the others; listings, progress, Ctrl-C, two downloads at once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.server import BODY, QUICK, World, fetched, md5, one, parts, serves, spec, status, under

import cli
from embedcache import DataError, Dataset, datasets
from embedcache.dataset import Remote
from embedcache.download.dataset import Download, download


def many(world: World, count: int) -> Dataset:
    for n in range(count):
        world.routes[f"/{n}"] = serves(BODY[: n + 1])
    return spec(*(Remote(f"{world.url}/{n}", f"d/{n}.wav", n + 1, md5(BODY[: n + 1])) for n in range(count)))


def test_files_that_cannot_be_had_do_not_stop_the_others(world: World, tmp_path: Path) -> None:
    what = many(world, 30)
    world.routes["/3"] = world.routes["/7"] = status(404)
    with pytest.raises(DataError, match="2 files could not be downloaded") as error:
        fetched(world, tmp_path, what)
    assert "/3: the server responded with 404" in str(error.value)
    assert len(under(tmp_path)) == 28
    world.routes["/3"], world.routes["/7"] = serves(BODY[:4]), serves(BODY[:8])
    world.asked.clear()
    assert fetched(world, tmp_path, what) == Download(tmp_path, fetched=2, found=28, unpacked=0)
    assert len(world.asked) == 2


def test_a_server_that_has_nothing_is_soon_left_alone(world: World, tmp_path: Path) -> None:
    what = many(world, 200)
    world.routes.clear()
    with pytest.raises(DataError, match="5 files could not be downloaded"):
        fetched(world, tmp_path, what)
    assert len(world.asked) < 60
    assert under(tmp_path) == {}


def test_progress_counts_megabytes_or_files(world: World, tmp_path: Path) -> None:
    from contextlib import contextmanager

    seen: list[tuple[str, float, str, float]] = []

    @contextmanager
    def progress(task: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        steps: list[float] = []
        yield steps.append
        seen.append((task, total, unit, round(sum(steps), 9)))

    world.routes["/x"] = serves(BODY, cuts=[100_000, 200_000], ranges=False)
    download(one(world), tmp_path, progress, QUICK)
    download(one(world), tmp_path, progress, QUICK)
    download(one(world, size=None), tmp_path / "unknown", progress, QUICK)
    in_bytes = ("downloading ravdess", 0.3, "MB", 0.3)
    assert seen == [in_bytes, in_bytes, ("downloading ravdess", 1, "files", 1)]


def test_ctrl_c_keeps_what_is_complete(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    what = many(world, 200)
    calm = serves(BODY[:101])

    def interrupts(h: BaseHTTPRequestHandler) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        calm(h)

    world.routes["/100"] = interrupts
    monkeypatch.setattr(datasets, "get", lambda name: what)
    monkeypatch.setattr(sys, "argv", ["ser", "download", "ravdess", "--root", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "error: stopped: complete files remain. Run the same command again to continue" in capsys.readouterr().err
    kept = under(tmp_path)
    assert 50 < len(kept) < 200
    assert all(content == BODY[: len(content)] for content in kept.values())
    world.routes["/100"] = calm
    got = fetched(world, tmp_path, what)
    assert (got.found, got.fetched) == (len(kept), 200 - len(kept))


def test_ctrl_c_ends_a_long_file_soon(world: World, tmp_path: Path) -> None:
    slowly = serves(BODY, pause=0.1)

    def interrupts(h: BaseHTTPRequestHandler) -> None:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        slowly(h)

    world.routes["/x"] = interrupts
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetched(world, tmp_path)
    assert time.monotonic() - begin < 2  # all of it takes 3
    assert under(tmp_path) == {}
    assert 0 < parts(tmp_path)[".x.wav.part"] < 300_000


def test_two_at_once_in_a_folder_are_told_apart(world: World, tmp_path: Path) -> None:
    held, go_on = threading.Event(), threading.Event()

    def waits(h: BaseHTTPRequestHandler) -> None:
        held.set()
        go_on.wait(5)
        serves(BODY)(h)

    world.routes["/x"] = waits
    first = threading.Thread(target=download, args=(one(world), tmp_path))
    first.start()
    held.wait(5)
    with pytest.raises(DataError, match="another `ser download` is running here"):
        fetched(world, tmp_path)
    go_on.set()
    first.join()
    assert under(tmp_path) == {"a/x.wav": BODY}


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../x.wav",
            "/x.wav",
            "a/../../x.wav",
            "C:\\x.wav",
            "C:/x.wav",
            "a\\..\\..\\x",
            "a\0b",
            "",
            ".",
            "a//b",
            "a/",
        ),
        *(".download.json", "a/.x.part", "link/x.wav", "a\nb", "a /b", "\ud800"),
    ],
)
def test_a_listing_cannot_name_a_place_outside(world: World, tmp_path: Path, path: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(DataError, match="the list of files from the server cannot be used"):
        fetched(world, root, spec(Remote(f"{world.url}/ok", "ok.wav"), Remote(f"{world.url}/x", path)))
    assert world.asked == []
    assert under(root) == {}
    assert sorted(tmp_path.rglob("x*")) == []


def test_a_listing_names_each_file_once_and_at_least_one(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'A.wav': is listed more than once"):
        fetched(world, tmp_path, spec(Remote(world.url, "a.wav"), Remote(world.url, "A.wav")))
    with pytest.raises(DataError, match="it lists no files"):
        fetched(world, tmp_path, spec())
