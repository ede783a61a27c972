"""Models on mfcc vectors of made-up sound, and the application of a service of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.extraction import extracted
from helpers.sounds import ravdess_tree

from classifiers.inference.model import Model, load_models
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts

HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, ...]:
    """A logreg and a lda."""
    root = tmp_path_factory.mktemp("serving")
    extracted(ravdess_tree(root / "tree"), root / "artifacts")
    asked = (ComparisonConfig(heads=(name,), folds=2) for name in ("logreg", "lda"))
    return load_models([fit_model(Artifacts(root / "artifacts"), one, jobs=1)[0] for one in asked])


@pytest.fixture
def client(served_models: tuple[Model, ...]) -> Iterator[Any]:
    """Who asks the application, without a network."""
    pytest.importorskip("prometheus_client")
    from fastapi.testclient import TestClient

    from classifiers.serving.access import Access
    from classifiers.serving.server import PATHS, PUBLIC, build_app
    from classifiers.serving.service import PredictionService

    app = build_app(PredictionService(served_models), Access(None, (), PATHS, ("/api/",), PUBLIC))
    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as client:
        yield client
