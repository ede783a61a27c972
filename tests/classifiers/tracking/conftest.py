"""A run of two heads, as `ser compare` leaves it."""

from pathlib import Path

import pytest

from classifiers import compare
from classifiers.checks import toy_task
from classifiers.evaluation.run_folder import write_run


@pytest.fixture(scope="session")
def two_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked") / "20260101-000000-toy-random"
    predictions = compare(toy_task(), ["logreg", "lda"], "random", n_folds=2, jobs=1)
    write_run(folder, predictions, {"heads": ["logreg", "lda"], "tune": 0}, None)
    return folder
