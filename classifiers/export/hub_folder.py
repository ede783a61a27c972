"""`ser export --hub`: write a model as a repository of the Hugging Face Hub, and upload it.

The folder has the card (README.md), the files that `load_model` reads, the numbers of the head as safetensors and,
if the head can be exported, its ONNX file. Enrolled speakers stay here. An upload is one commit: it is there as a whole
or not at all.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import ConfigError, ModelError, SerError
from embedcache.encoders.hub import HUB_ID, network_errors
from embedcache.errors import first_line
from embedcache.files.atomic import atomic_write
from embedcache.files.existing import refuse_existing

from ..saved.hub_models import HEAD, MODEL
from ..saved.model_folder import OTHER_FOLDER, ModelCard, load_model
from ..saved.speaker_files import ADAPTATION
from .hub_card import hub_card
from .onnx_export import export_onnx, new_folder

README, WEIGHTS, ONNX = "README.md", "head.safetensors", "onnx"
ABOUT = {
    README: "this card",
    MODEL: "the card with all facts, read by `load_model`",
    HEAD: "the fitted head, read by `load_model` without pickle",
    ADAPTATION: "the statistics with which vectors are adapted to a speaker",
    WEIGHTS: "the numbers of the head, for other programs",
    f"{ONNX}/head.onnx": "the head as ONNX, for other programs",
}
DEPTH = 20  # largest number of objects within each other in a head


@dataclass(frozen=True)
class HubFolder:
    """A written folder."""

    folder: Path
    hub_id: str
    files: tuple[str, ...]
    notes: tuple[str, ...]  # what is not in the folder, as sentences

    @property
    def upload_command(self) -> str:
        """The command that uploads the folder."""
        return f"hf upload {self.hub_id} {shlex.quote(str(self.folder))}"


def write_hub_folder(model: str | Path, hub_id: str, out: str | Path | None = None) -> HubFolder:
    """Write the repository `hub_id`, `user/model`, of a model folder into `out`, by default `hub` in the model folder.

    Raises ConfigError if `hub_id` is none, and ModelError if the folder exists, if the model cannot be loaded, or if
    its encoder is only on this machine.
    """
    if not HUB_ID.fullmatch(hub_id) or "@" in hub_id:
        raise ConfigError(f"got --hub {hub_id}; wanted the name of a model on the hub, such as user/model.")
    model = Path(model)
    out = Path(out) if out else model / "hub"
    refuse_existing(out, ModelError, OTHER_FOLDER)  # its README.md is there to be edited
    if not model.is_dir():
        raise ModelError(f"{model}: no such model folder. Give a folder that `ser fit` wrote.")
    estimator, card = load_model(model)
    _check_has_public_encoder(model, card)
    with new_folder(out) as folder:
        notes = tuple(_write_files(model, estimator, folder))
        files = [name for name in ABOUT if name == README or (folder / name).exists()]
        with atomic_write(folder / README) as file:
            file.write(hub_card(card, hub_id, {name: ABOUT[name] for name in files}))
    return HubFolder(out, hub_id, tuple(files), notes)


def _check_has_public_encoder(model: Path, card: ModelCard) -> None:
    """Raise ModelError if an encoder is a folder of this machine, which is named in the card and not in the folder."""
    local = [info["checkpoint"] for info in card.encoder_infos if Path(info["checkpoint"] or ".").is_absolute()]
    if local:
        raise ModelError(
            f"{model}: reads vectors of {local[0]}, a checkpoint on this machine that nobody else has; wanted an "
            "encoder of ser or of the hub. Upload the checkpoint, extract with its hub id, and fit again."
        )


def _write_files(model: Path, estimator: Any, folder: Path) -> Iterator[str]:
    """Write all files but the card; yield why a file is left out."""
    from safetensors.numpy import save_file

    for name in (MODEL, HEAD, ADAPTATION):
        if (model / name).exists():
            shutil.copyfile(model / name, folder / name)
    if weights := dict(arrays_of(estimator)):
        save_file(weights, folder / WEIGHTS, metadata={"format": "np", "head": type(estimator).__name__})
    try:
        export_onnx(model, out=folder / ONNX)
    except SerError as error:
        yield f"no ONNX file: {first_line(error)}"


def arrays_of(estimator: Any, name: str = "", depth: int = DEPTH) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the numbers of a head with their names, such as `model_.coef_`, from all objects within it."""
    if isinstance(estimator, np.ndarray) and estimator.dtype.kind in "fiub":
        yield name, np.ascontiguousarray(estimator)
    elif isinstance(estimator, float) and name.endswith("_"):  # such as a temperature, which was fitted
        yield name, np.array(estimator)
    elif depth:
        for key, value in _parts(estimator):
            yield from arrays_of(value, f"{name}.{key}" if name else key, depth - 1)


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return what is within a value, with names; nothing for numbers, texts and settings."""
    if isinstance(value, dict):
        return [(str(key), one) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [(str(number), one) for number, one in enumerate(value)]
    return list(vars(value).items()) if hasattr(value, "get_params") else []


def upload(written: HubFolder) -> str:
    """Upload a written folder in one commit, and return its address. A new repository is private.

    Raises SerError if there is no token, or if the hub cannot be reached or refuses; the folder stays.
    """
    from huggingface_hub import HfApi, errors, get_token

    later = f"The folder {written.folder} is complete. Upload it later: {written.upload_command}"
    if not get_token():
        raise SerError(f"no token of the hub is here. Log in with `hf auth login`, or set HF_TOKEN. {later}")
    api = HfApi()
    try:
        api.create_repo(written.hub_id, private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=written.hub_id, folder_path=written.folder, commit_message="Upload a model of ser"
        )
    except (OSError, ValueError, errors.HfHubHTTPError, *network_errors()) as error:
        raise SerError(f"{written.hub_id}: cannot be uploaded ({first_line(error)}).", later) from error
    return str(done)
