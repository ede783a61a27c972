"""Push a run to MLflow: a run with the name of the run folder, and below it one nested run for each row.

The nested runs have parameters, metrics, tags, predictions.csv and confusion.png of their rows, the run above them has
leaderboard.csv and run.json. A run of MLflow is `FINISHED` only when it is complete. Another push of the same run keeps
the rows that are complete, and replaces those that are not.

MLflow's client repeats a request for minutes by default. Here a request fails after 10 s and is repeated once, unless
its environment variables say otherwise.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from embedcache import SerError
from embedcache.errors import first_line
from embedcache.text import count, install_hint

from .pushed_run import Pushed, PushedRow, PushedRun, named, row_files, run_files

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ser"  # name of the experiment, unless MLFLOW_EXPERIMENT_NAME has another
DEFAULTS = {  # environment variables of MLflow that are set unless they have a value
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # in seconds
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
DIGEST, ROW, PARENT, NAME = "ser.predictions_sha256", "ser.row", "mlflow.parentRunId", "mlflow.runName"
RUNNING, FINISHED, FAILED = "RUNNING", "FINISHED", "FAILED"
VALID = r"[\w. /-]"  # characters of the name of a metric or a parameter
LONGEST_VALUE = 500  # of a parameter, in characters; servers before MLflow 2.9 take no more
LONGEST_TAG = 5000
AT_ONCE = 100  # parameters, tags or metrics in one request


def push_to_mlflow(run: PushedRun, place: str = "") -> Pushed:
    """Push a run to the server at the tracking URI `place`, by default to where MLFLOW_TRACKING_URI says.

    Raises SerError if mlflow is missing, or if the server cannot be reached or refuses a request. A run that is not
    complete is then marked as failed, as far as the server can be reached.
    """
    if find_spec("mlflow") is None:
        raise SerError(f"--mlflow needs mlflow. Install its client with `{install_hint('mlflow')}`.")
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient, get_tracking_uri

    uri = place or get_tracking_uri()
    with _errors_named(uri):
        return _push(MlflowClient(tracking_uri=uri), run, without_password(uri))


def without_password(text: str) -> str:
    """Return a text whose URIs have no user and no password."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


@contextmanager
def _errors_named(uri: str) -> Iterator[None]:
    """Raise SerError, with the address, for the errors that MLflow, its HTTP library and its stores raise."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    place = without_password(uri)
    try:
        yield
    except (MlflowException, RequestException, OSError) as error:
        raise SerError(
            f"MLflow at {place}: {without_password(first_line(error))[:500].rstrip('.')}.",
            "The run is not complete there. Check that MLFLOW_TRACKING_URI or --to is the address of a server that "
            "runs, and push again: complete rows are kept.",
        ) from error
    except ImportError as error:  # the light client has no database
        raise SerError(
            f"MLflow at {place}: the client that is installed cannot write there ({first_line(error)}). Set "
            "MLFLOW_TRACKING_URI or --to to the address of a server, or install all of mlflow."
        ) from error


@dataclass(frozen=True)
class _Found:
    """The runs of MLflow that earlier pushes of the same run made."""

    parent: str  # id; "" for none
    complete: frozenset[str]  # keys of the rows whose runs are complete
    broken: tuple[str, ...]  # ids of the runs of rows that are not


def _push(client: MlflowClient, run: PushedRun, place: str) -> Pushed:
    experiment = _experiment(client)
    found = _find(client, experiment, run)
    new = [row for row in run.rows if row.key not in found.complete]
    done = Pushed(f"{place}, experiment {experiment[1]}, run {run.name}", len(new), len(run.rows) - len(new))
    if found.parent and not new and not found.broken:
        return done
    parent = found.parent or client.create_run(experiment[0], run_name=run.name, tags=_run_tags(run)).info.run_id
    with _finished_or_failed(client, parent):
        for broken in found.broken:
            client.delete_run(broken)
        for row in new:
            _push_row(client, experiment[0], parent, run, row)
        with run_files(run) as folder:
            client.log_artifacts(parent, str(folder))
    return done


def _experiment(client: MlflowClient) -> tuple[str, str]:
    """Return the id and the name of the experiment, which is created if there is none."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    existing = client.get_experiment_by_name(name)
    return (existing.experiment_id if existing else client.create_experiment(name)), name


def _find(client: MlflowClient, experiment: tuple[str, str], run: PushedRun) -> _Found:
    parent, complete, broken = "", set(), []
    for other in _search(client, experiment[0], f"tags.`{DIGEST}` = '{run.digest}'"):
        key, info = other.data.tags.get(ROW), other.info
        if key is None:
            parent = info.run_id if info.status == FINISHED or not parent else parent
        elif info.status == FINISHED:
            complete.add(key)
        else:
            broken.append(info.run_id)
    return _Found(parent, frozenset(complete), tuple(broken))


def _search(client: MlflowClient, experiment: str, wanted: str) -> Iterator[Any]:
    """Yield all runs that match a filter; a server answers in pages."""
    page = client.search_runs([experiment], wanted)
    yield from page
    while page.token:
        page = client.search_runs([experiment], wanted, page_token=page.token)
        yield from page


@contextmanager
def _finished_or_failed(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Mark a run as running, then as finished if nothing is raised, else as failed."""
    client.update_run(run_id, status=RUNNING)
    try:
        yield
    except BaseException:
        with suppress(Exception):  # the server may be the cause
            client.set_terminated(run_id, FAILED)
        raise
    client.set_terminated(run_id, FINISHED)


def _push_row(client: MlflowClient, experiment: str, parent: str, run: PushedRun, row: PushedRow) -> None:
    tags = {**_run_tags(run), **_cut(row.tags, LONGEST_TAG), ROW: row.key, PARENT: parent}
    own = client.create_run(experiment, run_name=row.name, tags=tags).info.run_id
    with _finished_or_failed(client, own):
        _log_values(client, own, row)
        with row_files(row) as folder:
            client.log_artifacts(own, str(folder))


def _run_tags(run: PushedRun) -> dict[str, str]:
    return {DIGEST: run.digest, "ser.created": run.created}


def _log_values(client: MlflowClient, run_id: str, row: PushedRow) -> None:
    from mlflow.entities import Metric, Param

    now = round(time.time() * 1000)
    params = [Param(name, value) for name, value in _cut(named(row.params, VALID), LONGEST_VALUE).items()]
    metrics = [Metric(name, value, now, 0) for name, value in named(row.metrics, VALID).items()]
    for some in _in_parts(params):
        client.log_batch(run_id, params=some)
    for some in _in_parts(metrics):
        client.log_batch(run_id, metrics=some)


def _cut(values: Mapping[str, Any], longest: int) -> dict[str, str]:
    """Return values as text; of a text that is too long, the beginning and how long it is."""
    return {name: cut(str(value), longest) for name, value in values.items()}


def cut(text: str, longest: int) -> str:
    """Return a text, or of one that is too long the beginning, with the number of characters of the whole."""
    end = f"… ({count(len(text), 'character')}, all in the files of the run)"
    return text if len(text) <= longest else text[: longest - len(end)] + end


def _in_parts(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE)]
