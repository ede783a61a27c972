"""`ser download`: fetch the remote files of a dataset into a folder, check and unpack them, and resume after a stop.

A file has its final name only when it is complete. Archives are fetched under a hidden name, unpacked and removed.
`.download.json` in the folder is the journal: it lists the finished files by URL, each with its published checksum and
the files that came out of it with their sizes in bytes. The journal only saves work. If it is lost, existing files are
checked again by content.
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
from .http import RESUME_ADVICE, ConnectionConfig, Fetcher, PartialFile, mismatch, writing
from .unzip import BadArchive, duplicates, path_fault, unpack

MOST_FAILURES = 5  # number of failed files after which the download stops
LARGEST_JOURNAL = 64 << 20  # maximum size of the journal, in bytes

ReportSize = Callable[[int], None]  # is called with the number of bytes of a file that are on disk


@dataclass(frozen=True)
class Download:
    """The result of a download. An archive counts as one file in `fetched` and `found`."""

    root: Path
    fetched: int  # number of files fetched over the network
    found: int  # number of files that were complete before
    unpacked: int  # number of files unpacked from archives


@dataclass(frozen=True)
class _FileResult:
    """The result for one remote file."""

    fetched: bool  # whether the file came over the network
    unpacked: int = 0  # number of files unpacked from it


def download(
    spec: Dataset, root: str | Path | None = None, progress: Progress = silent, config: ConnectionConfig | None = None
) -> Download:
    """Fetch all files of a dataset into `root`. The default is `$SER_DATA/<dataset>`, or `data/<dataset>` without it.

    Files that exist and are complete are not fetched again. Raises DataError if the dataset is only available on
    application, if a file cannot be fetched or is not the published one, or if a file cannot be written.
    """
    folder = target_folder(spec, root)
    if spec.remotes is None:
        raise DataError(*_application_message(spec, folder))
    fetcher = Fetcher(config or ConnectionConfig(), threading.Event())
    with _lock(folder):
        remotes = spec.remotes(fetcher.get)
        _check_paths(spec, remotes, folder)
        return _Job(spec, folder, fetcher, _Journal(folder)).run(remotes, progress)


def target_folder(spec: Dataset, root: str | Path | None = None) -> Path:
    """Return the folder that a dataset is downloaded to: the first one in which `find_root` looks."""
    return Path(root) if root else Path(os.environ.get("SER_DATA") or "data") / spec.name


def _application_message(spec: Dataset, folder: Path) -> tuple[str, str]:
    advice = spec.how_to_apply or spec.how_to_get()
    refusal = f"{spec.name} cannot be downloaded automatically. {advice}"
    return refusal, f"Put its files into {folder}: {spec.layout}."


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Allow one download at a time in a folder, because two would write the same parts.

    The operating system releases the lock of a killed process.
    """
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / ".download.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise DataError(f"{root}: another `ser download` is running here. Wait for it, or stop it.") from None
    try:
        yield
    finally:
        lock.release()


def _check_paths(spec: Dataset, remotes: Sequence[Remote], root: Path) -> None:
    """Raise DataError if a path leads out of the folder, is hidden or not unique. Lists of servers are not trusted."""
    paths = [remote.path for remote in remotes]
    faults = [f"{path!r}: {fault}" for path in paths if (fault := _remote_path_fault(path, root))]
    faults += [f"{path!r}: is listed more than once" for path in duplicates(paths)]
    if faults or not remotes:
        advice = f"Nothing was fetched. Check what is published: {spec.source}"
        summary = f"{spec.name}: the list of files from the server cannot be used"
        raise DataError(*complain(summary, faults or ["it lists no files"], advice))


def _remote_path_fault(path: str, root: Path) -> str:
    # Hidden names are refused because the journal, the lock and the parts have hidden names.
    return "is hidden" if path.startswith(".") or "/." in path else path_fault(path, root)


class _Journal:
    """The journal `.download.json`. A journal that cannot be read counts as empty."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / ".download.json"
        for part in root.glob(f".{self.path.name}.*.part"):  # left by a run that was killed while it wrote the journal
            part.unlink(missing_ok=True)
        try:
            content = read_json(self.path, LARGEST_JOURNAL, DataError)
        except DataError:
            content = None
        finished = content.get("finished") if isinstance(content, dict) else None
        self._finished: dict[str, Any] = finished if isinstance(finished, dict) else {}

    def lists(self, remote: Remote) -> bool:
        """Whether a remote file is finished, and all files that came out of it still exist."""
        entry = self._finished.get(remote.url)
        files = entry.get("files") if isinstance(entry, dict) and entry.get("checksum") == remote.checksum else None
        if not files or not isinstance(files, dict):
            return False
        return all(self._has_size(path, size) for path, size in files.items())

    def _has_size(self, path: str, size: object) -> bool:
        try:
            return (self.root / path).stat().st_size == size
        except (OSError, ValueError):  # ValueError: a NUL character in the path
            return False

    def add(self, remote: Remote, files: dict[str, int]) -> None:
        """Record that a remote file is finished. `files` are its local files: path in the folder -> size in bytes."""
        self._finished[remote.url] = {"checksum": remote.checksum, "files": files}

    def save(self) -> None:
        """Write the journal. Other threads may add entries meanwhile."""
        text = json.dumps({"finished": dict(self._finished)}, indent=1)
        with atomic_write(self.path, kind=DataError, advice=f"Make room. {RESUME_ADVICE}") as file:
            file.write(text)


@dataclass(frozen=True)
class _Job:
    """One download of all files of a dataset."""

    spec: Dataset
    root: Path
    fetcher: Fetcher
    journal: _Journal

    def run(self, remotes: Sequence[Remote], progress: Progress) -> Download:
        """Obtain all files, a few at the same time. Raises DataError at the end if any of them failed."""
        megabytes = sum(remote.size or 0 for remote in remotes) / 1e6
        total, unit = (megabytes, "MB") if megabytes else (len(remotes), "files")
        results: list[_FileResult] = []
        faults: list[DataError] = []
        with progress(f"downloading {self.spec.name}", total, unit) as advance:
            meter = _Meter(advance)
            with self._pool() as pool:
                futures = [pool.submit(self._obtain, remote, meter.reporter(remote)) for remote in remotes]
                for result in self._gather(futures, faults):
                    results.append(result)
                    advance(0 if megabytes else 1)
        if faults:
            summary = f"{self.spec.name}: {len(faults)} files could not be downloaded"
            if len(faults) == 1:
                raise faults[0]
            raise DataError(*complain(summary, [" ".join(fault.args) for fault in faults], RESUME_ADVICE))
        fetched = sum(result.fetched for result in results)
        return Download(self.root, fetched, len(results) - fetched, sum(result.unpacked for result in results))

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Provide a pool of threads that end soon after an interrupt. The journal is saved in any case."""
        with ThreadPoolExecutor(self.fetcher.config.connections) as pool:
            try:
                yield pool
            except BaseException:
                self.fetcher.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                self.journal.save()

    def _gather(self, futures: list[Future[_FileResult]], faults: list[DataError]) -> Iterator[_FileResult]:
        """Yield results as files are finished and append errors to `faults`. Stop after `MOST_FAILURES` errors."""
        for future in as_completed(futures):
            try:
                yield future.result()
            except DataError as error:
                faults.append(error)
                if len(faults) == MOST_FAILURES:
                    self.fetcher.stop.set()
                    for waiting in futures:
                        waiting.cancel()
                    return

    def _obtain(self, remote: Remote, report: ReportSize) -> _FileResult:
        """Find or fetch one remote file. An archive is also unpacked."""
        path = self.root / remote.path
        with writing(path):
            if path.suffix.lower() == ".zip":
                result = self._obtain_archive(remote, path, report)
            elif self.journal.lists(remote):
                result = _FileResult(fetched=False)
            else:
                result = self._obtain_file(remote, path, report)
        report(remote.size or 0)
        return result

    def _obtain_file(self, remote: Remote, path: Path, report: ReportSize) -> _FileResult:
        exists = os.path.lexists(path)
        if exists:
            self._check(remote, path)
            PartialFile.of(path, remote).delete()  # a killed run may have left its note
        else:
            self.fetcher.fetch(remote, path, report)
        self.journal.add(remote, {remote.path: path.stat().st_size})
        return _FileResult(fetched=not exists)

    @staticmethod
    def _check(remote: Remote, path: Path) -> None:
        if fault := mismatch(path, remote):
            raise DataError(f"{path} exists with different content: {fault}. Remove it, or choose another --root.")

    def _obtain_archive(self, remote: Remote, path: Path, report: ReportSize) -> _FileResult:
        """Fetch and unpack an archive, record it in the journal, then remove it.

        After a kill between any two of these steps, the next run continues with the step that is missing.
        """
        hidden = path.with_name(f".{path.name}")  # an archive without the dot belongs to the user and is not removed
        result = _FileResult(fetched=False)
        if not self.journal.lists(remote):
            archive = next((file for file in (path, hidden) if file.is_file() and not mismatch(file, remote)), None)
            if archive is None:
                self.fetcher.fetch(remote, hidden, report)
            files = self._unpack(archive or hidden, hidden)
            parent = path.parent.relative_to(self.root)
            self.journal.add(remote, {(parent / name).as_posix(): size for name, size in files.items()})
            self.journal.save()
            result = _FileResult(archive is None, len(files))
        hidden.unlink(missing_ok=True)
        PartialFile.of(hidden, remote).delete()
        return result

    @staticmethod
    def _unpack(archive: Path, hidden: Path) -> dict[str, int]:
        try:
            return unpack(archive, archive.parent)
        except BadArchive:
            hidden.unlink(missing_ok=True)
            raise


class _Meter:
    """A counter of the bytes of all files, in MB. Files without a published size are not counted."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance, self._lock = advance, threading.Lock()

    def reporter(self, remote: Remote) -> ReportSize:
        """Return a function to call with the bytes of a file on disk. If a file starts again, the total goes back."""
        before = 0

        def report(size: int) -> None:
            nonlocal before
            with self._lock:
                self._advance((size - before) / 1e6)
                before = size

        return report if remote.size else lambda size: None
