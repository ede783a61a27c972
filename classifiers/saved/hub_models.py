"""Where a model's files are: in a folder of this machine, or in the Hugging Face cache, filled from the hub.

A model on the hub is named `user/model` or `user/model@revision`, as a checkpoint is (`embedcache.encoders.hub`). A
folder of that name on this machine comes first, then the cache, then the hub. Only the files that `ser` reads are
downloaded, none of them a pickle.
"""

from __future__ import annotations

from pathlib import Path

from embedcache import ModelError
from embedcache.encoders.hub import HUB_ID, network_errors, split_revision
from embedcache.errors import first_line
from embedcache.provenance import CARD

from .speaker_files import ADAPTATION

MODEL, HEAD = "model.json", "head.skops"
# What `load_model` reads, and what a checkpoint of `ser finetune` consists of.
PATTERNS = (MODEL, HEAD, ADAPTATION, CARD, "config.json", "preprocessor_config.json", "*.safetensors")
NOT_READ = ("head.safetensors", "onnx/*")  # for other programs
SECONDS = 10  # longest wait for the first answer of the hub


def locate_model(model: str | Path) -> Path:
    """Return the folder of a model, given by its folder or its hub id.

    Raises ModelError if a model is not on this machine, and the hub does not have it or cannot be reached.
    """
    name = Path(model).as_posix()
    if Path(model).exists() or not HUB_ID.fullmatch(name):
        return Path(model)
    return _cached(name) or _download(name)


def model_name(folder: Path) -> str:
    """Return the name of a model: that of its folder, or `user/model` for a folder of the Hugging Face cache."""
    place = folder.resolve()
    repository = place.parent.parent.name  # models--user--model/snapshots/COMMIT
    if place.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return place.name


def _cached(name: str) -> Path | None:
    """Return the folder of a model in the cache, or None if it is not there as a whole."""
    from huggingface_hub import try_to_load_from_cache

    hub_id, revision = split_revision(name)
    for description, weights in ((MODEL, HEAD), (CARD, "model.safetensors")):
        found = try_to_load_from_cache(hub_id, description, revision=revision)
        if isinstance(found, str) and (Path(found).parent / weights).exists():
            return Path(found).parent
    return None


def _download(name: str) -> Path:
    """Download a model into the cache. The first request is not repeated, so that it fails at once when offline."""
    from huggingface_hub import HfApi, errors, snapshot_download

    hub_id, revision = split_revision(name)
    try:
        HfApi().model_info(hub_id, revision=revision, timeout=SECONDS)
        return Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=[*PATTERNS], ignore_patterns=[*NOT_READ])
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise ModelError(
            f"{name}: no such model folder here, and no such model on the hub. Give a folder that `ser fit` wrote, or "
            "the hub id of a model, such as user/model or user/model@main."
        ) from error
    except (OSError, errors.HfHubHTTPError, *network_errors()) as error:
        raise ModelError(
            f"{name}: no such model folder here, and the hub cannot be reached ({first_line(error)}). Give a folder "
            "that `ser fit` wrote, or try again when the hub can be reached."
        ) from error
