"""`ser download`: what a dataset's `remotes` name, into a folder: checked, unpacked, resumed after any interruption.

A file stands under its name only when it is complete. Archives are fetched under a hidden name, unpacked and removed.
`.download.json` in the folder lists what is finished, by address: the published checksum, and each file with its size
in bytes. It only spares work: where it is lost, what is there is checked again by content.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from ..dataset import Dataset, Remote
from ..errors import DataError, complain
from ..files.atomic import atomic_write
from ..files.untrusted import read_json
from ..progress import Progress, silent
from .http import AGAIN, Fetcher, PartialFile, Patience, mismatch, writing
from .unzip import Unsound, clashes, stray, unpack

FAILURES = 5  # files after which no further ones are tried
LARGEST_JOURNAL = 64 << 20  # bytes

OnBytes = Callable[[int], None]  # how many bytes of a file are there


@dataclass(frozen=True)
class Download:
    """What a download did. An archive counts as one file, under what is unpacked out of it as many as it holds."""

    root: Path
    fetched: int  # files that came over the network
    found: int  # files that were there
    unpacked: int  # files out of the archives that were fetched


@dataclass(frozen=True)
class _Done:
    """What became of one remote file."""

    fetched: bool
    unpacked: int = 0


def download(
    spec: Dataset, root: str | Path | None = None, progress: Progress = silent, patience: Patience | None = None
) -> Download:
    """Fetch what a dataset consists of into `root`; None stands for `$SER_DATA/<dataset>`, else `data/<dataset>`.

    What is there and complete is not fetched again. Raises DataError where the dataset may not be fetched without
    asking, where a file cannot be had or is not what was published, or nothing can be written.
    """
    place = home_of(spec, root)
    if spec.remotes is None:
        raise DataError(_how_to_apply(spec, place))
    fetcher = Fetcher(patience or Patience(), threading.Event())
    with _alone(place):
        remotes = spec.remotes(fetcher.get)
        _check_paths(spec, remotes, place)
        return _Job(spec, place, fetcher, _Journal(place)).run(remotes, progress)


def home_of(spec: Dataset, root: str | Path | None = None) -> Path:
    """The folder that a dataset is fetched into: the first that `find_root` looks at."""
    return Path(root) if root else Path(os.environ.get("SER_DATA") or "data") / spec.name


def _how_to_apply(spec: Dataset, place: Path) -> str:
    way = spec.apply or spec.how_to_get()
    return f"{spec.name} cannot be fetched by a command. {way}\nPut its files into {place}: {spec.layout}."


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One download at a time in a folder: two would write into the same parts. A killed one holds nothing."""
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / ".download.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise DataError(f"{root}: another `ser download` is at work here. Wait for it, or stop it.") from None
    try:
        yield
    finally:
        lock.release()


def _check_paths(spec: Dataset, remotes: Sequence[Remote], root: Path) -> None:
    """Servers' listings name paths too: none may lead out of the folder, or to a hidden file of ours."""
    paths = [remote.path for remote in remotes]
    faults = [f"{path!r}: {fault}" for path in paths if (fault := _fault(path, root))]
    faults += [f"{path!r}: stands there more than once" for path in clashes(paths)]
    if faults or not remotes:
        advice = f"Nothing was fetched. See by hand what is published: {spec.source}"
        raise DataError(complain(f"{spec.name}: what the server lists is no dataset", faults or ["no file"], advice))


def _fault(path: str, root: Path) -> str:
    return "is hidden" if path.startswith(".") or "/." in path else stray(path, root)


class _Journal:
    """`.download.json`. One that cannot be read counts as empty."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / ".download.json"
        for left in root.glob(f".{self.path.name}.*.part"):  # by a run that was killed while it wrote
            left.unlink(missing_ok=True)
        try:
            read = read_json(self.path, LARGEST_JOURNAL, DataError)
        except DataError:
            read = None
        finished = read.get("finished") if isinstance(read, dict) else None
        self._finished: dict[str, Any] = finished if isinstance(finished, dict) else {}

    def lists(self, remote: Remote) -> bool:
        """Whether a file was finished, and all that came of it is still there."""
        entry = self._finished.get(remote.url)
        files = entry.get("files") if isinstance(entry, dict) and entry.get("checksum") == remote.checksum else None
        if not files or not isinstance(files, dict):
            return False
        return all(self._is_there(path, size) for path, size in files.items())

    def _is_there(self, path: str, size: object) -> bool:
        try:
            return (self.root / path).stat().st_size == size
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return False

    def add(self, remote: Remote, files: dict[str, int]) -> None:
        """A file is finished: what came of it, by path in the folder, with sizes in bytes."""
        self._finished[remote.url] = {"checksum": remote.checksum, "files": files}

    def save(self) -> None:
        """Write it; other threads may add meanwhile."""
        text = json.dumps({"finished": dict(self._finished)}, indent=1)
        with atomic_write(self.path, kind=DataError, advice=f"Make room. {AGAIN}") as file:
            file.write(text)


@dataclass(frozen=True)
class _Job:
    """One download."""

    spec: Dataset
    root: Path
    fetcher: Fetcher
    journal: _Journal

    def run(self, remotes: Sequence[Remote], progress: Progress) -> Download:
        """All files, a few at once. Raises DataError in the end for those that could not be had."""
        total = sum(remote.size or 0 for remote in remotes) / 1e6
        done: list[_Done] = []
        faults: list[str] = []
        with progress(f"downloading {self.spec.name}", total or len(remotes), "MB" if total else "files") as advance:
            meter = _Meter(advance)
            with self._pool() as pool:
                futures = [pool.submit(self._obtain, remote, meter.of(remote)) for remote in remotes]
                for one in self._gather(futures, faults):
                    done.append(one)
                    advance(0 if total else 1)
        if faults:
            what = f"{self.spec.name}: {len(faults)} files could not be had"
            raise DataError(faults[0] if len(faults) == 1 else complain(what, faults, AGAIN))
        fetched = sum(one.fetched for one in done)
        return Download(self.root, fetched, len(done) - fetched, sum(one.unpacked for one in done))

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that end soon where the caller is interrupted; what was finished is noted in any case."""
        with ThreadPoolExecutor(self.fetcher.patience.at_once) as pool:
            try:
                yield pool
            except BaseException:
                self.fetcher.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                self.journal.save()

    def _gather(self, futures: list[Future[_Done]], faults: list[str]) -> Iterator[_Done]:
        """The files as they are finished; what was wrong with others goes into `faults`, until it is enough."""
        for future in as_completed(futures):
            try:
                yield future.result()
            except DataError as error:
                faults.append(str(error))
                if len(faults) == FAILURES:
                    self.fetcher.stop.set()
                    for waiting in futures:
                        waiting.cancel()
                    return

    def _obtain(self, remote: Remote, report: OnBytes) -> _Done:
        """One file: found, or fetched; an archive unpacked."""
        path = self.root / remote.path
        with writing(path):
            if path.suffix.lower() == ".zip":
                done = self._obtain_archive(remote, path, report)
            elif self.journal.lists(remote):
                done = _Done(fetched=False)
            else:
                done = self._obtain_file(remote, path, report)
        report(remote.size or 0)
        return done

    def _obtain_file(self, remote: Remote, path: Path, report: OnBytes) -> _Done:
        there = os.path.lexists(path)
        if there:
            self._check(remote, path)
            PartialFile.of(path, remote).drop()  # a note that a killed run has left
        else:
            self.fetcher.fetch(remote, path, report)
        self.journal.add(remote, {remote.path: path.stat().st_size})
        return _Done(fetched=not there)

    @staticmethod
    def _check(remote: Remote, path: Path) -> None:
        if fault := mismatch(path, remote):
            raise DataError(f"{path} is there with another content: {fault}. Remove it, or choose another --root.")

    def _obtain_archive(self, remote: Remote, path: Path, report: OnBytes) -> _Done:
        """Fetched and unpacked, noted, then removed: after a kill between any two the next run goes on."""
        ours = path.with_name(f".{path.name}")  # an archive without the dot is the user's own, and stays
        done = _Done(fetched=False)
        if not self.journal.lists(remote):
            archive = next((file for file in (path, ours) if file.is_file() and not mismatch(file, remote)), None)
            if archive is None:
                self.fetcher.fetch(remote, ours, report)
            files = self._unpack(archive or ours, ours)
            below = path.parent.relative_to(self.root)
            self.journal.add(remote, {(below / name).as_posix(): size for name, size in files.items()})
            self.journal.save()
            done = _Done(archive is None, len(files))
        ours.unlink(missing_ok=True)
        PartialFile.of(ours, remote).drop()
        return done

    @staticmethod
    def _unpack(archive: Path, ours: Path) -> dict[str, int]:
        try:
            return unpack(archive, archive.parent)
        except Unsound:
            ours.unlink(missing_ok=True)
            raise


class _Meter:
    """Adds the files' bytes up, as MB; those of a file whose size nobody knows do not count."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance, self._lock = advance, threading.Lock()

    def of(self, remote: Remote) -> OnBytes:
        """What to call with how many bytes of a file are there; one that is begun anew counts back."""
        before = 0

        def report(size: int) -> None:
            nonlocal before
            with self._lock:
                self._advance((size - before) / 1e6)
                before = size

        return report if remote.size else lambda size: None
