"""One file from a server that misbehaves: what stands under a name is complete and right, whatever happens."""

import hashlib
import io
import json
import time
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.server import (
    BODY,
    QUICK,
    Route,
    World,
    complete,
    fetched,
    md5,
    one,
    parts,
    serves,
    spec,
    status,
    under,
)

from embedcache import DataError
from embedcache.dataset import Remote
from embedcache.download.dataset import Download, download
from embedcache.download.http import Redirects


def test_a_file_is_fetched_once(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    assert fetched(world, tmp_path) == Download(tmp_path, fetched=1, found=0, unpacked=0)
    complete(tmp_path, {"a/x.wav": BODY})
    assert fetched(world, tmp_path) == Download(tmp_path, fetched=0, found=1, unpacked=0)
    assert len(world.asked) == 1


def test_what_is_there_is_known_by_content_where_the_list_is_lost(world: World, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(BODY)
    for broken in (None, b"{", b"[]", b'{"finished": 3}', f'{{"finished": {{"{world.url}/x": 3}}}}'.encode()):
        if broken:
            (tmp_path / ".download.json").write_bytes(broken)
        assert fetched(world, tmp_path).found == 1
    assert world.asked == []


def test_a_file_with_another_content_is_told_and_stays(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"different content: got 43 bytes, wanted 300,000\. Remove it"):
        fetched(world, tmp_path)
    assert under(tmp_path)["a/x.wav"].startswith(b"version")
    assert world.asked == []


def test_a_removed_file_is_fetched_again(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    fetched(world, tmp_path)
    (tmp_path / "a" / "x.wav").unlink()
    assert fetched(world, tmp_path).fetched == 1


def test_cut_connections_go_on_where_they_ended(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, cuts=[100_000, 50_000])
    assert fetched(world, tmp_path).fetched == 1
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert world.ranges("/x") == [None, "bytes=100000-", "bytes=150000-"]


def test_after_too_many_cuts_the_part_stays_for_the_next_run(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, cuts=[40_000] * 3)
    with pytest.raises(
        DataError, match=r"cut 180,000 bytes before the end, 3 times in a row\. Run the same command again"
    ):
        fetched(world, tmp_path)
    assert (under(tmp_path), parts(tmp_path)) == ({}, {".x.wav.part": 120_000})
    fetched(world, tmp_path)
    assert world.ranges("/x")[-1] == "bytes=120000-"
    complete(tmp_path, {"a/x.wav": BODY})


def test_many_cuts_are_borne_while_it_comes_along(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedcache.download.http.STEP", 10_000)
    world.routes["/x"] = serves(BODY, cuts=[20_000] * 12)
    fetched(world, tmp_path)
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert len(world.asked) == 13


def test_a_server_that_ignores_ranges_starts_anew(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, cuts=[100_000, 200_000], ranges=False)
    fetched(world, tmp_path)
    assert under(tmp_path) == {"a/x.wav": BODY}
    world.routes["/x"] = serves(BODY, cuts=[100_000] * 9, ranges=False)
    with pytest.raises(DataError, match="3 times in a row"):  # that it begins anew each time is no progress
        fetched(world, tmp_path / "other")


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("known", [{}, {"checksum": ""}])
def test_a_file_that_changes_between_two_parts_starts_anew(
    world: World, tmp_path: Path, heeds: bool, known: dict[str, str]
) -> None:
    world.routes["/x"] = serves(bytes(300_000), cuts=[100_000] * 3, tags=['"old"'])
    with pytest.raises(DataError):
        download(one(world, **known), tmp_path, config=replace(QUICK, tries=1))
    world.routes["/x"] = serves(BODY, tags=['"new"'], heeds_if_range=heeds)
    fetched(world, tmp_path, one(world, **known))
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert world.ranges("/x")[1:] == ["bytes=100000-"] + ([] if heeds else [None])


def test_without_version_and_checksum_nothing_is_resumed(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, cuts=[100_000], tags=[""])
    fetched(world, tmp_path, one(world, checksum=""))
    assert world.ranges("/x") == [None, None]
    world.routes["/x"] = serves(BODY, cuts=[100_000], tags=['W/"weak"'])
    fetched(world, tmp_path / "checked")  # a checksum tells whether the halves belong together
    assert world.ranges("/x")[2:] == [None, "bytes=100000-"]


@pytest.mark.parametrize("note", [b"{", b"[]", b'{"url": 1}', b'{"url": "http://elsewhere/x", "validator": "v"}'])
def test_a_part_of_unknown_origin_is_not_gone_on_from(world: World, tmp_path: Path, note: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".x.wav.part").write_bytes(b"junk" * 100)
    (tmp_path / "a" / ".x.wav.part.json").write_bytes(note)
    world.routes["/x"] = serves(BODY)
    fetched(world, tmp_path)
    assert world.ranges("/x") == [None]
    complete(tmp_path, {"a/x.wav": BODY})


def note_of(world: World, root: Path, part: bytes) -> None:
    """A part as a killed run leaves it."""
    (root / "a").mkdir(parents=True)
    (root / "a" / ".x.wav.part").write_bytes(part)
    (root / "a" / ".x.wav.part.json").write_text(json.dumps({"url": f"{world.url}/x", "validator": '"v1"'}))


def test_a_complete_part_only_gets_its_name(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    note_of(world, tmp_path / "1", BODY)
    fetched(world, tmp_path / "1")
    assert world.asked == []
    note_of(world, tmp_path / "2", BODY)
    fetched(world, tmp_path / "2", one(world, size=None, checksum=""))  # nobody knew: the server says 416
    assert world.ranges("/x") == [f"bytes={len(BODY)}-"]
    assert under(tmp_path / "1") == under(tmp_path / "2") == {"a/x.wav": BODY}


def test_a_part_longer_than_the_file_is_dropped(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    note_of(world, tmp_path, BODY + b"more")
    fetched(world, tmp_path)
    complete(tmp_path, {"a/x.wav": BODY})


def test_another_piece_than_was_asked_for_is_not_taken(world: World, tmp_path: Path) -> None:
    def shifted(h: BaseHTTPRequestHandler) -> None:
        if not h.headers["Range"]:
            serves(BODY)(h)
            return
        h.send_response(206)
        h.send_header("Content-Range", f"bytes 7-{len(BODY) - 1}/{len(BODY)}")
        h.send_header("Content-Length", str(len(BODY) - 7))
        h.end_headers()
        h.wfile.write(BODY[7:])

    world.routes["/x"] = shifted
    note_of(world, tmp_path, BODY[:100_000])
    fetched(world, tmp_path, one(world, checksum=""))
    assert under(tmp_path) == {"a/x.wav": BODY}


def test_a_length_that_lies_leads_to_no_wrong_file(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, length=400_000)
    with pytest.raises(DataError, match=r"the server offers 400,000 bytes \(audio/x-wav\), wanted 300,000"):
        fetched(world, tmp_path)
    fetched(world, tmp_path / "long", one(world, size=None))  # asked for the rest, the server tells the truth
    assert under(tmp_path / "long") == {"a/x.wav": BODY}
    world.routes["/x"] = serves(BODY, length=400_000, ranges=False)
    with pytest.raises(DataError, match="cut 100,000 bytes before the end, 3 times"):
        fetched(world, tmp_path / "none", one(world, size=None))
    world.routes["/x"] = serves(BODY, length=200_000)
    with pytest.raises(DataError, match="got the md5 .*, wanted"):
        fetched(world, tmp_path / "short", one(world, size=None))
    assert under(tmp_path / "none") == under(tmp_path / "short") == {}
    assert parts(tmp_path / "short") == {}


def chunked(body: bytes, ends: bool = True) -> Route:
    def route(h: BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        for at in range(0, len(body), 50_000):
            piece = body[at : at + 50_000]
            h.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        h.wfile.write(b"0\r\n\r\n" if ends else b"ff\r\nab")

    return route


def test_a_body_without_a_length(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.routes["/x"] = chunked(BODY)
    fetched(world, tmp_path / "known")
    fetched(world, tmp_path / "unknown", one(world, size=None, checksum=""))
    assert under(tmp_path / "known") == under(tmp_path / "unknown") == {"a/x.wav": BODY}
    world.routes["/x"] = chunked(BODY, ends=False)
    with pytest.raises(DataError, match="cut"):
        fetched(world, tmp_path / "cut", one(world, size=None, checksum=""))
    world.routes["/x"] = chunked(BODY + b"!")
    with pytest.raises(DataError, match="sent more than 300,000 bytes"):
        fetched(world, tmp_path / "more")
    monkeypatch.setattr("embedcache.download.http.LARGEST", 200_000)
    with pytest.raises(DataError, match="sent more than 200,000 bytes"):
        fetched(world, tmp_path / "endless", one(world, size=None, checksum=""))
    for name in ("cut", "more", "endless"):
        assert under(tmp_path / name) == {}
    assert parts(tmp_path / "more") == parts(tmp_path / "endless") == {}


def test_a_file_of_unknown_size_is_bounded(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, length=1 << 40)
    with pytest.raises(DataError, match="the maximum is 4,294,967,296"):
        fetched(world, tmp_path, one(world, size=None))

    def endless(h: BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.end_headers()
        h.wfile.write(BODY)

    world.routes["/x"] = endless
    with pytest.raises(DataError, match="an incomplete download would go unnoticed"):
        fetched(world, tmp_path, one(world, size=None, checksum=""))
    assert (under(tmp_path), parts(tmp_path)) == ({}, {})


def test_a_wrong_checksum_leaves_nothing(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY[::-1])
    with pytest.raises(DataError, match=rf"/x: got the md5 [0-9a-f]+, wanted {md5(BODY)[4:]}\. The file was removed"):
        fetched(world, tmp_path)
    assert (under(tmp_path), parts(tmp_path)) == ({}, {})
    world.routes["/x"] = serves(BODY)
    sha256 = "sha256:" + hashlib.sha256(BODY).hexdigest().upper()
    fetched(world, tmp_path, one(world, checksum=sha256))
    assert under(tmp_path) == {"a/x.wav": BODY}


@pytest.mark.parametrize(("code", "tries"), [(404, 1), (403, 1), (500, 3), (503, 3), (204, 1), (202, 3), (304, 1)])
def test_answers_without_a_file(world: World, tmp_path: Path, code: int, tries: int) -> None:
    world.routes["/x"] = status(code)
    with pytest.raises(DataError, match=f"/x: the server responded with {code}"):
        fetched(world, tmp_path)
    assert len(world.asked) == tries
    assert (under(tmp_path), parts(tmp_path)) == ({}, {})


def test_a_server_that_is_busy_is_asked_again_when_it_says(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = status(503, times=2, then=serves(BODY))
    fetched(world, tmp_path / "1")
    world.routes["/x"] = status(429, times=1, then=serves(BODY), Retry_After="1")
    begin = time.monotonic()
    fetched(world, tmp_path / "2")
    assert 1 <= time.monotonic() - begin < 2
    assert under(tmp_path / "1") == under(tmp_path / "2") == {"a/x.wav": BODY}


def test_a_server_that_stalls_counts_as_cut(world: World, tmp_path: Path) -> None:
    answers = [100_000, 150_000]

    def stalls(h: BaseHTTPRequestHandler) -> None:
        start = int(h.headers["Range"][6:-1]) if h.headers["Range"] else 0
        end = start + answers.pop(0) if answers else len(BODY)
        h.send_response(206 if start else 200)
        h.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        h.send_header("Content-Length", str(len(BODY) - start))
        h.end_headers()
        h.wfile.write(BODY[start:end])
        h.wfile.flush()
        if end < len(BODY):
            time.sleep(0.5)

    world.routes["/x"] = stalls
    fetched(world, tmp_path)
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert world.ranges("/x") == [None, "bytes=100000-", "bytes=250000-"]


def test_no_server_is_one_message(tmp_path: Path) -> None:
    nobody = spec(Remote("http://127.0.0.1:9/x", "x.wav", 3, md5(b"abc")))
    with pytest.raises(DataError, match=r"127.0.0.1:9/x: .*refused, 3 times in a row\. Run the same command"):
        download(nobody, tmp_path, config=QUICK)


def test_redirects(world: World, tmp_path: Path) -> None:
    for n in range(12):
        world.routes[f"/{n}"] = status(302, Location=f"/{n + 1}")
    world.routes["/8"] = serves(BODY, cuts=[100_000])
    world.routes["/x"] = status(303, Location="/0")
    fetched(world, tmp_path)
    assert under(tmp_path) == {"a/x.wav": BODY}
    assert world.ranges("/8") == [None, "bytes=100000-"]
    world.routes["/8"] = status(302, Location="/9")
    for location, said in {
        "/x": "responded with 302",  # a loop
        "/0": "responded with 302",  # too many
        "file:///etc/passwd": "responded with 302",
        "ftp://127.0.0.1/x": "redirects to ftp://",
    }.items():
        world.asked.clear()
        world.routes["/x"] = status(302, Location=location)
        with pytest.raises(DataError, match=said):
            fetched(world, tmp_path / "none")
        assert len(world.asked) <= 11
    assert under(tmp_path / "none") == {}


STRANGE = [
    (302, {"Location": "http://[::1"}),
    (302, {"Location": "http://127.0.0.1:port/x"}),
    (302, {"Location": "//"}),
    (302, {"Location": "http:\x1b[31m"}),
    (302, {}),
    (200, {"Content-Length": "9" * 5000}),
    (200, {"Content-Length": "-1"}),
    (200, {"Content-Length": "x", "Content-Type": "\x1b[31m/\x1b[31m"}),
    (200, {"Transfer-Encoding": "chunked"}),
    (206, {"Content-Range": "bytes 0-1/" + "9" * 5000}),
    (206, {"Content-Range": "bytes " + "9" * 5000 + "-1/3"}),
    (206, {"Content-Range": "bytes 0-299999/300000", "Content-Length": "300000"}),
    (416, {"Content-Range": "bytes */" + "9" * 5000}),
    (429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}),
    (503, {"Retry-After": "-1"}),
]


@pytest.mark.parametrize(("code", "headers"), STRANGE)
@pytest.mark.parametrize("begun", [True, False])
def test_strange_headers_are_one_message(
    world: World, tmp_path: Path, code: int, headers: dict[str, str], begun: bool
) -> None:
    def route(h: BaseHTTPRequestHandler) -> None:
        h.send_response(code, "\x1b[31mred")
        for name, value in headers.items():
            h.send_header(name, value)
        h.end_headers()
        h.wfile.write(BODY[:-1])

    world.routes["/x"] = route
    if begun:
        note_of(world, tmp_path, BODY[:1000])
    with pytest.raises(DataError) as error:
        fetched(world, tmp_path)
    assert "\x1b" not in str(error.value)
    assert under(tmp_path) == {}


def test_a_folder_that_is_a_file_is_one_message(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot write .*file"):
        fetched(world, tmp_path / "file")


def test_encryption_is_not_lost_on_the_way() -> None:
    secure = urllib.request.Request("https://example.org/x")
    follow = Redirects().redirect_request
    assert follow(secure, io.BytesIO(), 302, "", {}, "https://example.com/x").full_url == "https://example.com/x"
    with pytest.raises(DataError, match="redirects to http://example.com/x; wanted an https address"):
        follow(secure, io.BytesIO(), 302, "", {}, "http://example.com/x")
    plain = urllib.request.Request("http://example.org/x")
    assert follow(plain, io.BytesIO(), 302, "", {}, "https://example.org/x").full_url == "https://example.org/x"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "/etc/passwd", "data:,x"])
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="wanted an address with http or https"):
        download(spec(Remote(url, "x.wav")), tmp_path, config=QUICK)
    assert under(tmp_path) == {}
