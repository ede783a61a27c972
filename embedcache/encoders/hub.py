"""Where the files of a checkpoint are: in a folder of this machine, or in the Hugging Face cache, filled from the hub.

A checkpoint is named by its folder, by its hub id `user/model`, or by `user/model@revision`, where the revision is a
branch, a tag or a commit of the repository on the hub. Without a revision, it is the branch `main`. Files on this
machine are used without a network request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import EncoderError, first_line
from ..files.untrusted import FETCH_LFS, is_lfs_pointer, read_json
from ..text import examples

UNTRAINED = "wav2vec2-base-untrained"
# Files that hold weights, in the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
CONFIG, FEATURES, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
FILES = f"{CONFIG}, {FEATURES} or {PROCESSOR}, and {WEIGHTS[0]}"  # what save_pretrained writes, for messages
NESTED = {"feature_extractor", "audio_processor"}  # names of the feature extractor's settings in PROCESSOR
MAX_JSON_BYTES = 1 << 24  # Whisper's filters take 0.3 MB; a weight index takes about 100 bytes a tensor

_PART = r"\w[\w.+#=-]*"  # no part of a revision starts with a dot, so none is `..`
REVISION = re.compile(rf"{_PART}(/{_PART})*")
HUB_ID = re.compile(rf"[\w-][\w.-]*/[\w-][\w.-]*(@{REVISION.pattern})?")  # with or without a revision


def locate(checkpoint: str) -> tuple[str, Path]:
    """Return where a checkpoint comes from (its absolute folder or its hub id) and the folder of its files."""
    if Path(checkpoint).is_dir():
        folder = Path(checkpoint).resolve()
        return str(folder), folder
    return checkpoint, _cached_folder(checkpoint) or _download(checkpoint)


def local_files(checkpoint: str) -> list[Path]:
    """Return the files of a checkpoint on this machine, sorted by name; none if it is not on this machine."""
    folder = Path(checkpoint).resolve() if Path(checkpoint).is_dir() else _cached_folder(checkpoint)
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder else []


def is_cached(checkpoint: str) -> bool:
    """Whether the configs and the weights of a hub checkpoint are in the local Hugging Face cache."""
    return _cached_folder(checkpoint) is not None


def is_checkpoint(name: str) -> bool:
    """Whether the name of an encoder is that of a folder or a hub id, and not that of a built-in encoder."""
    return "/" in name or Path(name).is_dir() or Path(without_revision(name)).is_dir()


def without_revision(checkpoint: str) -> str:
    """Return a hub id without its revision: `user/model@v1` gives `user/model`. An absolute folder is not changed."""
    return checkpoint if Path(checkpoint).is_absolute() else checkpoint.partition("@")[0]


def name_of(checkpoint: str) -> str:
    """Return the name of a checkpoint's encoder: the last part of its folder or hub id, with the revision.

    `/data/model` gives `model`, and `user/model@refs/pr/1` gives `model@refs-pr-1`: a name has no slashes, because it
    becomes a part of folder names.
    """
    hub_id = without_revision(checkpoint)
    return Path(hub_id).name + checkpoint[len(hub_id) :].replace("/", "-")


def split_revision(checkpoint: str) -> tuple[str, str | None]:
    """Return the hub id and the revision, which is None if none is named.

    Raises EncoderError for a revision of a folder, and for a revision that cannot exist.
    """
    hub_id, at, revision = checkpoint.partition("@")
    if at and hub_id and Path(hub_id).is_dir():
        raise EncoderError(
            f"{checkpoint}: no such folder here; {hub_id} is a folder, which has no revisions. Use {hub_id}, or the "
            "hub id of a checkpoint on the hub with its revision, such as user/model@main."
        )
    if at and not REVISION.fullmatch(revision):
        raise EncoderError(
            f"{checkpoint}: got the revision '{revision}'; wanted the name of a branch or a tag, or a commit. Use "
            f"{hub_id}@main, or {hub_id}."
        )
    return hub_id, revision or None


def _cached_folder(checkpoint: str) -> Path | None:
    """Return the folder in the Hugging Face cache, or None if it does not hold the whole checkpoint."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    hub_id, revision = split_revision(checkpoint)
    try:
        config = try_to_load_from_cache(hub_id, CONFIG, revision=revision)
    except HFValidationError:  # not a hub id, which `_download` reports
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if _has_features(folder) and any((folder / name).exists() for name in WEIGHTS) else None


def _has_features(folder: Path) -> bool:
    """Whether a folder has the feature extractor's settings: in a file of their own, or in that of the processor."""
    if (folder / FEATURES).exists():
        return True
    if not (folder / PROCESSOR).exists():
        return False
    settings = read_json(folder / PROCESSOR, MAX_JSON_BYTES, EncoderError)
    return isinstance(settings, dict) and not NESTED.isdisjoint(settings)


def refuse_incomplete(checkpoint: str, folder: Path) -> None:
    """Raise EncoderError if a folder lacks files of a checkpoint, or has a pointer of git-LFS in place of weights."""
    features = FEATURES if (folder / FEATURES).exists() or not _has_features(folder) else PROCESSOR
    weights = next((name for name in WEIGHTS if (folder / name).exists()), WEIGHTS[0])
    lacking = [name for name in (CONFIG, features, weights) if not (folder / name).exists()]
    if lacking:
        raise EncoderError(
            f"{checkpoint}: lacks {', '.join(lacking)}. Wanted the files that save_pretrained writes: {FILES}. "
            f"{_advice(folder, lacking)}"
        )
    for path in sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin")):
        if path.is_file() and is_lfs_pointer(path):
            raise EncoderError(f"{path}: is a git-LFS pointer, not weights. {FETCH_LFS}")


def _advice(folder: Path, lacking: Sequence[str]) -> str:
    """Return what to do about a checkpoint that lacks files: a Trainer, for example, puts checkpoints in folders."""
    if inner := sorted(path.name for path in folder.iterdir() if (path / CONFIG).exists()):
        return f"Checkpoints are in folders of it: {examples(inner)}. Use one of them."
    if list(lacking) == [FEATURES]:
        return "Copy it from the checkpoint that this one was trained from: it says what sound the network takes."
    return "Copy or download them again."


def _download(checkpoint: str) -> Path:
    """Download a checkpoint into the Hugging Face cache. Raises EncoderError if that fails."""
    from huggingface_hub import errors

    hub_id, revision = split_revision(checkpoint)
    try:
        return _fetch(hub_id, revision)
    except errors.RevisionNotFoundError as error:
        raise EncoderError(
            f"{checkpoint}: {hub_id} has no branch, tag or commit '{revision}' on the hub. Use another revision, or "
            f"{hub_id}."
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise EncoderError(
            f"{checkpoint}: no such checkpoint on the hub, and no such folder here. `ser encoders` lists the built-in "
            "names."
        ) from error
    except (OSError, errors.HfHubHTTPError, *network_errors()) as error:
        raise EncoderError(*_unreachable(checkpoint, error)) from error


def _fetch(hub_id: str, revision: str | None) -> Path:
    """Download configs and weights, and return their folder in the cache.

    The first request has a timeout of 10 s and is not repeated, so that the download fails at once when offline.
    """
    from huggingface_hub import HfApi, snapshot_download

    files = {sibling.rfilename for sibling in HfApi().model_info(hub_id, revision=revision, timeout=10).siblings or ()}
    weights = "*.safetensors*" if any(file.endswith(".safetensors") for file in files) else "pytorch_model*.bin*"
    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=["*.json", weights]))


def network_errors() -> tuple[type[Exception], ...]:
    """Return the base class of the errors that the hub's HTTP library raises without a network connection."""
    import huggingface_hub.utils._http as http

    library = getattr(http, "httpx", None) or getattr(http, "httpx2", None)
    return (library.HTTPError,) if library else ()


def _unreachable(checkpoint: str, error: Exception) -> tuple[str, str]:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE

    reason = first_line(error)
    return (
        f"{checkpoint}: not in the cache {HF_HUB_CACHE}, and {ENDPOINT} cannot be reached ({reason}).",
        f"Use one of: --encoder FOLDER with a checkpoint copied from another machine ({FILES}); --encoder functionals, "
        f"which needs no weights; or, as a control, --encoder {UNTRAINED}, the network of wav2vec2-base with "
        "random weights.",
    )
