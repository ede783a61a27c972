"""Archives: unpacked beside themselves, and nothing outside, whatever they hold."""

import random
import stat
import zipfile
from pathlib import Path

import pytest
from helpers.server import BODY, CLIPS, World, archived, central, complete, fetched, one, parts, serves, under, zipped

from embedcache import DataError
from embedcache.download import unzip as unpack
from embedcache.download.dataset import Download


def test_an_archive_is_unpacked_and_removed(world: World, tmp_path: Path) -> None:
    extra = {"__MACOSX/Actor_01/._x.wav": b"mac", ".DS_Store": b"mac", "Actor_01/": b""}
    what = archived(world, zipped(CLIPS | extra))
    assert fetched(world, tmp_path, what) == Download(tmp_path, fetched=1, found=0, unpacked=4)
    complete(tmp_path, CLIPS)
    assert fetched(world, tmp_path, what) == Download(tmp_path, fetched=0, found=1, unpacked=0)
    assert len(world.asked) == 1
    next(tmp_path.rglob("*.wav")).unlink()  # what is lost is fetched again, what is there is left
    assert fetched(world, tmp_path, what).fetched == 1
    assert under(tmp_path) == CLIPS


def test_an_archive_that_is_there_is_not_fetched_and_stays(world: World, tmp_path: Path) -> None:
    packed = zipped(CLIPS)
    what = archived(world, packed)
    (tmp_path / "clips.zip").write_bytes(packed)
    assert fetched(world, tmp_path, what) == Download(tmp_path, fetched=0, found=1, unpacked=4)
    assert under(tmp_path) == CLIPS | {"clips.zip": packed}
    assert world.asked == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "clips.zip").write_bytes(packed[:-10])
    assert fetched(world, tmp_path / "other", what).fetched == 1


def test_files_of_ones_own_are_not_overwritten(world: World, tmp_path: Path) -> None:
    name = next(iter(CLIPS))
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"mine")
    what = archived(world, zipped(CLIPS))
    with pytest.raises(DataError, match=r"exist with different content:\n  Actor_01/.*\nNothing was unpacked"):
        fetched(world, tmp_path, what)
    assert under(tmp_path) == {name: b"mine"}
    (tmp_path / name).write_bytes(CLIPS[name])
    assert fetched(world, tmp_path, what).fetched == 0  # the archive waits
    complete(tmp_path, CLIPS)


def linked(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


HOSTILE = {
    "up": (zipped({"ok.wav": b"x", "../x": b"x"}), "plain relative path"),
    "deep up": (zipped({"a/../../x": b"x"}), "plain relative path"),
    "absolute": (zipped({"/x": b"x"}), "plain relative path"),
    "drive": (zipped({"C:\\x": b"x"}), "characters that are not allowed"),
    "backslash": (zipped({"..\\x": b"x"}), "characters that are not allowed"),
    "nul": (zipped({"x\0.wav": b"x"}), "characters that are not allowed"),
    "link": (zipped({"x": b"/etc/passwd"}, linked), "link or a device"),
    "twice": (zipped({"x.wav": b"x", "X.wav": b"y"}), "more than once"),
    "encrypted": (central(zipped({"x.wav": b"x"}), 8, b"\1\0"), "has contents that no dataset has.*is encrypted"),
    "method": (central(zipped({"x.wav": b"x"}), 10, b"\x0e\0"), "compression method 14"),
    "bomb": (zipped({"x.wav": bytes(1 << 20)}), "1,048,576 bytes after unpacking"),
    "declared bomb": (central(zipped({"x.wav": b"x"}), 24, b"\xf0\xff\xff\xff"), "4,294,967,280 bytes after"),
    "more than declared": (central(zipped({"x.wav": bytes(9000)}), 24, b"\x05\0\0\0"), "Bad CRC-32"),
    "less than declared": (central(zipped({"x.wav": b"x"}), 24, b"\x05\0\0\0"), "ends too early"),
    "through a link": (zipped({"link/x": b"x"}), "leads outside the folder"),
    "flipped": (zipped({"x.wav": BODY}).replace(BODY[5000:5010], BODY[5010:5020]), "not a valid zip"),
    "cut": (zipped(CLIPS)[:-30], "not a valid zip"),
    "page": (b"<!DOCTYPE html><title>Sorry</title>", "not a valid zip.*begins with b'<!DOCTYPE html>"),
    "empty": (b"", "not a valid zip"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_damaged_archives_leave_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(unpack, "SMALL", 100_000)
    packed, said = HOSTILE[kind]
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(DataError, match=rf"(?s)clips\.zip.*{said}"):
        fetched(world, root, archived(world, packed, size=None, checksum=""))
    assert (under(root), parts(root)) == ({}, {})
    assert not list(outside.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"root", "outside"}
    fetched(world, root, archived(world, zipped(CLIPS), size=None, checksum=""))  # and the next try is a fresh one
    assert under(root) == CLIPS


def test_what_a_killed_run_has_unpacked_is_not_in_the_way(world: World, tmp_path: Path) -> None:
    (tmp_path / ".unpacking-clips.zip" / next(iter(CLIPS))).mkdir(parents=True)
    fetched(world, tmp_path, archived(world, zipped(CLIPS)))
    complete(tmp_path, CLIPS)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MEMBERS", 3)
    (tmp_path / "x.zip").write_bytes(zipped(CLIPS))
    with pytest.raises(DataError, match="4 files; the maximum is 3"):
        unpack.unpack(tmp_path / "x.zip", tmp_path / "out")


def test_flipped_bytes_make_an_error_or_the_same_files(tmp_path: Path) -> None:
    packed, rng, damaged = zipped({"a/x.wav": BODY[:300], "y.wav": bytes(500)}), random.Random(1), 0
    for n in range(150):
        spoilt = bytearray(packed)
        for _ in range(rng.randint(1, 3)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / ".x.zip").write_bytes(spoilt)
        try:
            unpack.unpack(folder / ".x.zip", folder)
        except DataError:
            damaged += 1
            assert under(folder) == {}
        assert set(under(folder).values()) <= {BODY[:300], bytes(500)}
        assert parts(folder) == {".x.zip": len(spoilt)}
    assert damaged > 50


def test_a_page_in_place_of_a_known_archive_keeps_the_part(world: World, tmp_path: Path) -> None:
    packed = zipped(CLIPS)
    world.routes["/x"] = serves(packed, cuts=[1000] * 3)
    what = one(world, packed, path="clips.zip")
    with pytest.raises(DataError):
        fetched(world, tmp_path, what)
    world.routes["/x"] = serves(b"<html>", kind="text/html", ranges=False)
    with pytest.raises(DataError, match=r"offers 6 bytes \(text/html\), wanted"):
        fetched(world, tmp_path, what)
    world.routes["/x"] = serves(packed)
    fetched(world, tmp_path, what)
    assert world.ranges("/x")[-1] == "bytes=3000-"
    assert under(tmp_path) == CLIPS
