"""As much of a tracking server of MLflow as a push needs, on this machine, with the faults that a test wants."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from helpers.json_server import JsonHandler


@dataclass
class Tracker:
    """Experiments and runs by id, the requests so far, and after how many requests there is which fault."""

    files: Path
    url: str = ""
    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fault: str = ""  # "500", "hang" or "cut"
    after: int = 0
    release: threading.Event = field(default_factory=threading.Event)  # ends all hanging answers

    def rows(self, status: str | None = None) -> list[dict[str, Any]]:
        """The runs of rows that are not deleted, by default of any status."""
        runs = [run for run in self.runs.values() if "mlflow.parentRunId" in run["tags"] and not run["deleted"]]
        return [run for run in runs if status in (None, run["status"])]

    def parents(self) -> list[dict[str, Any]]:
        return [run for run in self.runs.values() if "mlflow.parentRunId" not in run["tags"] and not run["deleted"]]

    def answer(self, path: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to one request; None for what is not there."""
        what = path.removeprefix("/api/2.0/mlflow/")
        method = getattr(self, what.replace("/", "_").replace("-", "_"), None)
        return method(asked) if method else None

    def experiments_get_by_name(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        found = next((key for key, name in self.experiments.items() if name == asked["experiment_name"]), None)
        return found and {"experiment": {"experiment_id": found, "name": self.experiments[found]}}

    def experiments_create(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.experiments["1"] = asked["name"]
        return {"experiment_id": "1"}

    def runs_create(self, asked: dict[str, Any]) -> dict[str, Any]:
        key = uuid.uuid4().hex  # the client remembers the folders of runs by their ids
        tags = {tag["key"]: tag["value"] for tag in asked["tags"]}
        self.runs[key] = {"id": key, "name": asked["run_name"], "status": "RUNNING", "tags": tags, "deleted": False}
        self.runs[key] |= {"params": {}, "metrics": {}}
        return {"run": self.described(key)}

    def runs_get(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"run": self.described(asked["run_id"])}

    def runs_update(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.runs[asked["run_id"]]["status"] = asked["status"]
        return {"run_info": self.described(asked["run_id"])["info"]}

    def runs_delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.runs[asked["run_id"]]["deleted"] = True
        return {}

    def runs_log_batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        for kind in ("params", "metrics"):
            self.runs[asked["run_id"]][kind] |= {one["key"]: one["value"] for one in asked.get(kind, ())}
        return {}

    def runs_search(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Runs with the tag of the filter, one a page."""
        digest = asked["filter"].split("'")[1]
        found = [key for key, run in self.runs.items() if digest in run["tags"].values() and not run["deleted"]]
        page = int(asked.get("page_token") or 0)
        more = {"next_page_token": str(page + 1)} if page + 1 < len(found) else {}
        return {"runs": [self.described(key) for key in found[page : page + 1]], **more}

    def described(self, key: str) -> dict[str, Any]:
        run = self.runs[key]
        place = (self.files / key).as_uri()
        info = {"run_id": key, "run_uuid": key, "experiment_id": "1", "status": run["status"], "artifact_uri": place}
        info |= {"run_name": run["name"], "lifecycle_stage": "active", "start_time": 0, "user_id": "u"}
        return {"info": info, "data": {"tags": [{"key": k, "value": v} for k, v in run["tags"].items()]}}


class Handler(JsonHandler):
    """Answers as a tracker does."""

    tracker: Tracker

    def do_GET(self) -> None:
        self.reply(dict(parse_qsl(urlsplit(self.path).query)))

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, asked: dict[str, Any]) -> None:
        tracker, path = self.tracker, urlsplit(self.path).path
        tracker.asked.append(path)
        if tracker.fault and len(tracker.asked) > tracker.after:
            self.fail(tracker.fault)
        elif (found := tracker.answer(path, asked)) is not None:
            self.send(200, found)
        else:
            self.send(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not here"})

    def fail(self, fault: str) -> None:
        if fault == "500":
            self.send(500, {"error_code": "INTERNAL_ERROR", "message": "the disk is full"})
        elif fault == "hang":
            self.tracker.release.wait(60)  # then, as with "cut", the connection ends without an answer


@contextmanager
def running_tracker(files: Path) -> Iterator[Tracker]:
    """A tracking server; its runs keep their files below a folder."""
    tracker = Tracker(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"tracker": tracker}))
    server.daemon_threads = True
    tracker.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield tracker
    tracker.release.set()
    server.shutdown()
    server.server_close()
