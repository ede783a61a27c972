"""A Hugging Face hub on this machine, and a cache as huggingface_hub leaves it."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HUB_ID = "some/tiny"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download needs: one repository, with a folder for each commit."""

    commits: Mapping[str, Path]
    refs: Mapping[str, str]  # branch or tag -> commit

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{HUB_ID}"):
            kind, _, revision = path.removeprefix(f"/api/models/{HUB_ID}").strip("/").partition("/")
            commit = self.resolve(revision or "main")
            data = commit and self.describe(kind, commit)
        elif path.startswith(f"/{HUB_ID}/resolve/"):
            commit, _, name = path.removeprefix(f"/{HUB_ID}/resolve/").partition("/")
            data = (self.commits[commit] / name).read_bytes()
        else:
            return self.refuse("RepoNotFound")
        return self.send(commit, data, body) if commit else self.refuse("RevisionNotFound")

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, of a tag, or of the first digits of a commit."""
        revision = self.refs.get(revision.replace("%2F", "/"), revision)
        return next((commit for commit in self.commits if commit.startswith(revision)), None)

    def describe(self, kind: str, commit: str) -> bytes:
        files = sorted(self.commits[commit].iterdir())
        if kind == "tree":
            sizes = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40} for f in files]
            return json.dumps(sizes).encode()
        return json.dumps({"id": HUB_ID, "sha": commit, "siblings": [{"rfilename": f.name} for f in files]}).encode()

    def refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.end_headers()

    def send(self, commit: str, data: bytes, body: bool) -> None:
        self.send_response(200)
        tag = f'"{commit[:8]}{len(data)}"'
        for header, value in (("Content-Length", len(data)), ("ETag", tag), ("X-Repo-Commit", commit)):
            self.send_header(header, str(value))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def running_hub(commits: Mapping[str, Path], refs: Mapping[str, str]) -> Iterator[str]:
    """The address of a hub that has `some/tiny`."""
    handler = type("Handler", (Hub,), {"commits": commits, "refs": refs})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def put_into_cache(cache: Path, checkpoint: Path, commit: str, *refs: str, hub_id: str = HUB_ID) -> Path:
    """Put a commit of a repository into a cache, as huggingface_hub does: links to blobs; the snapshot's folder."""
    place = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot, blobs = place / "snapshots" / commit, place / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True, exist_ok=True)
    for path in checkpoint.iterdir():
        blob = Path(shutil.copy(path, blobs / f"{commit[:8]}-{path.name}"))
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob.name))
    for ref in refs:
        (place / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (place / "refs" / ref).write_text(commit)
    return snapshot
