"""Full disks and kills: what was downloaded before stays, and the next run continues from there."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.places import REPOSITORY
from helpers.server import BODY, CLIPS, World, archived, complete, fetched, md5, one, parts, serves, spec, under, zipped

from embedcache import DataError, Dataset
from embedcache.dataset import Remote


def test_a_full_disk_is_one_message_and_goes_on(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*: File too large\. Make room, or choose another --root"):
            fetched(world, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (under(tmp_path), parts(tmp_path)) == ({}, {".x.wav.part": 100_000})
    fetched(world, tmp_path)
    assert world.ranges("/x")[-1] == "bytes=100000-"
    assert under(tmp_path) == {"a/x.wav": BODY}


def test_a_full_disk_while_unpacking_leaves_the_archive(world: World, tmp_path: Path) -> None:
    clips = {"small.wav": b"x" * 10, "x.wav": bytes(500_000)}
    what = archived(world, zipped(clips))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*: File too large"):
            fetched(world, tmp_path, what)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert under(tmp_path) == {}
    assert list(parts(tmp_path)) == [".clips.zip"]
    fetched(world, tmp_path, what)
    assert len(world.asked) == 1
    complete(tmp_path, clips)


DRIVER = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
from embedcache import datasets
from embedcache.dataset import Remote
from embedcache.download.dataset import download
remotes, root = [Remote(*fields) for fields in json.loads(sys.argv[1])], Path(sys.argv[2])
spec = replace(datasets.get("ravdess"), remotes=lambda get: remotes)
"""

KILLED_AT_EACH_STEP = (
    DRIVER
    + """
def killing(step, left):
    def before(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **options)
    return before

for n in range(1000):
    pid = os.fork()
    if not pid:
        left = [n]
        Path.replace, Path.unlink, os.fsync = (killing(step, left) for step in (Path.replace, Path.unlink, os.fsync))
        download(spec, root / str(n))
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        print(n)
        break
"""
)


def driven(code: str, what: Dataset, root: Path) -> subprocess.Popen:
    fields = [(r.url, r.path, r.size, r.checksum) for r in what.remotes(lambda url: b"")]
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(fields), str(root)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_before_any_rename_sync_or_removal_it_goes_on(world: World, tmp_path: Path) -> None:
    clips = dict(list(CLIPS.items())[:2])
    packed = zipped(clips)
    world.routes["/zip"], world.routes["/x"] = serves(packed), serves(BODY)
    archive = Remote(f"{world.url}/zip", "clips.zip", len(packed), md5(packed))
    what = spec(archive, Remote(f"{world.url}/x", "more/x.wav", len(BODY), md5(BODY)))
    everything = clips | {"more/x.wav": BODY}
    told, errors = driven(KILLED_AT_EACH_STEP, what, tmp_path).communicate(timeout=60)
    assert told.strip().isdecimal(), errors
    steps = int(told)
    assert steps > 15
    for n in range(steps):
        assert under(tmp_path / str(n)).items() <= everything.items()
        fetched(world, tmp_path / str(n), what)
        complete(tmp_path / str(n), everything)


def test_killed_in_mid_download_it_goes_on_from_there(world: World, tmp_path: Path) -> None:
    world.routes["/x"] = serves(BODY, pause=0.05)
    process = driven(DRIVER + "download(spec, root)", one(world), tmp_path)
    part = tmp_path / "a" / ".x.wav.part"
    while not (part.exists() and part.stat().st_size > 50_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert under(tmp_path) == {}
    size = part.stat().st_size
    assert 50_000 < size < 300_000
    world.routes["/x"] = serves(BODY)
    fetched(world, tmp_path)
    assert world.ranges("/x") == [None, f"bytes={size}-"]
    complete(tmp_path, {"a/x.wav": BODY})
