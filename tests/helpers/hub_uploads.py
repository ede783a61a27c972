"""As much of the Hugging Face Hub as an upload needs, on this machine: it takes a repository and one commit."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from helpers.json_server import JsonHandler


@dataclass
class UploadHub:
    """What was created and committed."""

    url: str = ""
    token: str = ""  # the token that was sent
    created: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    refuses: int = 0  # status of the answer to the commit, if it is refused

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            self.created = json.loads(body)
            return 200, {"url": f"{self.url}/{self.created.get('organization', 'me')}/{self.created['name']}"}
        if path.endswith("/preupload/main"):
            wanted = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted]}
        if path.endswith("/commit/main") and not self.refuses:
            self.commit(body)
            place = path.removeprefix("/api/models/").removesuffix("/main")  # me/emotions/commit
            return 200, {"success": True, "commitUrl": f"{self.url}/{place}/{'1' * 40}", "commitOid": "1" * 40}
        return (self.refuses, {"error": "refused"}) if self.refuses else (404, {"error": path})

    def commit(self, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])


class Handler(JsonHandler):
    """Answers as the hub does."""

    hub: UploadHub

    def do_GET(self) -> None:
        self.send(404, {"error": "nothing is here"})

    def do_POST(self) -> None:
        self.hub.token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.send(*self.hub.answer(self.path.partition("?")[0], self.body()))

    def body(self) -> bytes:
        if length := self.headers["Content-Length"]:
            return self.rfile.read(int(length))
        parts = []
        while size := int(self.rfile.readline(), 16):  # chunks, each after its length
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


@contextmanager
def running_upload_hub() -> Iterator[UploadHub]:
    """A hub that takes uploads."""
    hub = UploadHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield hub
    server.shutdown()
    server.server_close()
