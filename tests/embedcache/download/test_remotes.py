"""What the datasets say of their servers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.server import BODY, World, fetched, md5, serves, status, under

from embedcache import DataError, datasets
from embedcache.dataset import Remote
from embedcache.datasets import _remotes


def test_every_remote_is_well_formed() -> None:
    speech, song = (datasets.get(name).remotes(lambda url: b"") for name in ("ravdess", "ravdess-song"))
    clips = _remotes.cremad(lambda url: b"")
    for remote in [*speech, *song, *clips, *_remotes.emodb(lambda url: b"")]:
        assert remote.url.startswith(("https://", "http://emodb.bilderbar.info/"))
        kind, _, digest = remote.checksum.partition(":")
        assert len(digest) == {"md5": 32, "sha256": 64, "": 0}[kind]
    assert (len(clips), sum(clip.size or 0 for clip in clips)) == (7443, 605_899_936)
    assert len({clip.path for clip in clips}) == 7443
    sums = _remotes.cremad_checksums()
    assert len(sums) == 7442
    assert sums["1001_DFA_ANG_XX"].startswith("c6f94b25")
    for same in ("1006_TIE_HAP 1006_TIE_NEU", "1013_WSI_DIS 1013_WSI_SAD", "1017_IWW_ANG 1017_IWW_FEA"):
        first, second = same.split()
        assert sums[f"{first}_XX"] == sums[f"{second}_XX"]


def listing(*files: dict) -> Callable[[str], bytes]:
    return lambda url: json.dumps({"status": "OK", "data": {"latestVersion": {"files": files}}}).encode()


def entry(number: int, name: str, **more: object) -> dict:
    return {"label": name, "dataFile": {"id": number, "filename": name, "filesize": 3, "md5": "0" * 32}, **more}


def test_tess_is_read_from_its_listing(world: World, tmp_path: Path) -> None:
    files = [entry(7, "OAF_back_angry.wav", directoryLabel="OAF_angry"), entry(8, "YAF_x_sad.WAV"), entry(9, "a.pdf")]
    assert _remotes.tess(listing(*files)) == [
        Remote(f"{_remotes.BOREALIS}/access/datafile/7", "OAF_angry/OAF_back_angry.wav", 3, "md5:" + "0" * 32),
        Remote(f"{_remotes.BOREALIS}/access/datafile/8", "YAF_x_sad.WAV", 3, "md5:" + "0" * 32),
    ]
    for strange in (b"<html>", b"[]", b'{"data": {}}', b"[" * 100_000, b"\xff"):
        with pytest.raises(DataError, match="not a list of TESS files"):
            _remotes.tess(lambda url, strange=strange: strange)
    for wrong in ({"id": "7/../8"}, {"id": None}, {"filename": 3}, {"filesize": float("inf")}):
        broken = entry(7, "x.wav")
        broken["dataFile"] |= wrong
        with pytest.raises(DataError, match="not a list of TESS files"):
            _remotes.tess(listing(broken))
    outside = replace(datasets.get("ravdess"), remotes=lambda get: _remotes.tess(listing(entry(7, "../x.wav"))))
    with pytest.raises(DataError, match="the list of files from the server cannot be used"):
        fetched(world, tmp_path / "root", outside)


def test_a_listing_is_fetched_with_patience_and_bounds(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedcache.download.http.LARGEST_DOCUMENT", 1000)
    world.routes["/x"] = serves(BODY)

    def listed(get: Callable[[str], bytes]) -> list[Remote]:
        words = json.loads(get(f"{world.url}/list"))
        return [Remote(f"{world.url}/x", words[0], len(BODY), md5(BODY))]

    what = replace(datasets.get("ravdess"), remotes=listed)
    world.routes["/list"] = status(503, times=1, then=serves(b'["x.wav"]', cuts=[3]))
    fetched(world, tmp_path, what)
    assert under(tmp_path) == {"x.wav": BODY}
    world.routes["/list"] = serves(bytes(5000))
    with pytest.raises(DataError, match="more than 1,000 bytes; wanted a list of files"):
        fetched(world, tmp_path, what)
