"""What the output folder knows of the clips of a run: their rows in the manifest, their sound, their vectors.

All of it may have gone since the run was made. Then there is a sentence that says so, and no error.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from embedcache import Artifacts, Manifest, SerError
from embedcache.audio.decode import Recording
from embedcache.cache.store import store_folders
from embedcache.errors import first_line
from embedcache.manifest import Clip

from ..data.listed_clips import load_manifests
from ..data.task import Strings, Task
from ..evaluation.predictions import Predictions

MOST_AUDIO = 4_000_000  # characters of all recordings in a page
MOST_POINTS = 2000  # of a map
SEED = 0  # of what is drawn for a map, and of t-SNE
COMPONENTS = 50  # of PCA, that t-SNE reads


@dataclass(frozen=True)
class ClipFacts:
    """The manifest's rows of a dataset's clips, by the id that a run gives them; or why there are none."""

    clips: Mapping[str, Clip] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class ClipAudio:
    """A recording as a data URI; or why there is none."""

    uri: str = ""
    why: str = ""


@dataclass(frozen=True)
class VectorMap:
    """Where clips lie in two dimensions, by method (n, 2); or why there is none."""

    title: str
    places: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    of: int = 0  # clips there are
    why: str = ""


def known_clips(artifacts: Artifacts, dataset: str) -> ClipFacts:
    """The clips that a run on a dataset, on `a+b` or across `a->b` was tested on."""
    tested = dataset.rpartition("->")[2]
    try:
        manifests = _manifests(artifacts, tested)
    except SerError as error:
        return ClipFacts(why=f"The manifest of {tested} was not found: {_told(error, artifacts.root)}")
    prefixed = len(manifests) > 1
    clips = {f"{m.dataset}:{c.clip_id}" if prefixed else c.clip_id: c for m in manifests for c in m.clips}
    return ClipFacts(clips, tuple(manifest.dataset for manifest in manifests))


def sounds(listed: Sequence[Clip]) -> dict[str, ClipAudio]:
    """The sound of clips by key, as many as fit. A clip that is listed twice is twice in the page, and counts twice."""
    left, heard, times = MOST_AUDIO, {}, Counter(clip.key for clip in listed)
    for key, clip in {clip.key: clip for clip in listed}.items():
        sound = _sound(clip)
        if times[key] * len(sound.uri) > left:
            sound = ClipAudio(why=f"Left out: the recordings of a page may have {MOST_AUDIO / 1e6:g} MB in all.")
        left -= times[key] * len(sound.uri)
        heard[key] = sound
    return heard


def map_of(p: Predictions, known: ClipFacts, artifacts: Artifacts) -> VectorMap:
    """The vectors that a head read (the last layer's), in two dimensions."""
    title = f"{p.dataset}, {p.encoder}"
    if known.why:
        return VectorMap(title, why=known.why)
    stores = [f.name for f in store_folders(artifacts.cache) if f.name.endswith(f"-{p.fingerprint[:12]}")]
    if not stores:
        return VectorMap(title, why="The vectors were not found: the cache holds none of this encoder.")
    try:
        task = Task.load(known.datasets, stores[0], "pooled", artifacts)
    except SerError as error:
        return VectorMap(title, why=f"The vectors were not found: {_told(error, artifacts.root)}")
    rows = np.flatnonzero(np.isin(task.ids, p.clip_ids))
    if len(rows) < 5:
        return VectorMap(title, why=f"{len(rows)} of its clips have vectors: too few for a map.")
    drawn = rows
    if len(rows) > MOST_POINTS:
        drawn = np.sort(np.random.default_rng(SEED).choice(rows, MOST_POINTS, replace=False))
    label_of = dict(zip(p.clip_ids.tolist(), p.truth.tolist(), strict=True))  # in the run's words
    labels = tuple(label_of[clip_id] for clip_id in task.ids[drawn].tolist())
    speakers = tuple(task.speakers[drawn].tolist())
    return VectorMap(title, _places(np.asarray(task.X[drawn], dtype=np.float64)), labels, speakers, len(rows))


def _places(X: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """PCA and t-SNE of standardised vectors. One thread: sums then have one order, and points one place."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    with threadpool_limits(1):
        n = min(COMPONENTS, *X.shape)
        reduced = PCA(n, random_state=SEED).fit_transform(StandardScaler().fit_transform(X))
        wide = np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - n))))
        embed = TSNE(perplexity=min(30.0, (len(X) - 1) / 3), init=_begin(wide), random_state=SEED, n_jobs=1)
        return {"PCA": wide, "t-SNE": embed.fit_transform(reduced.astype(np.float32)).astype(np.float64)}


def _begin(places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Where t-SNE begins: at PCA's places, made small."""
    spread = float(places[:, 0].std()) or 1.0
    return (places / spread * 1e-4).astype(np.float32)


def _manifests(artifacts: Artifacts, dataset: str) -> list[Manifest]:
    """Of one dataset, or of `a+b`; a folder's name may have a plus in it, too."""
    if artifacts.manifest(dataset) in artifacts.lists or "+" not in dataset:
        return load_manifests(artifacts, [dataset])
    return load_manifests(artifacts, dataset.split("+"))


def _sound(clip: Clip) -> ClipAudio:
    try:
        recording = Recording.load(clip.path)
        if recording.key != clip.key:
            return ClipAudio(why="The file has changed since it was extracted: it is another recording.")
        return ClipAudio(f"data:audio/flac;base64,{b64encode(recording.flac()).decode('ascii')}")
    except SerError as error:
        return ClipAudio(why=f"No sound: {_told(error, Path(clip.path))}")


def _told(error: SerError, path: Path) -> str:
    """What an error says; not where a path lies on this machine, which is not for those who read the page."""
    return first_line(error).replace(str(path), path.name)


def column(p: Predictions, known: ClipFacts, name: str) -> Strings:
    """(n,): the gender, or an extra of the manifest, of each row's clip; "" where it says nothing."""
    said = {i: clip.gender if name == "gender" else clip.extra.get(name, "") for i, clip in known.clips.items()}
    return np.array([said.get(clip_id, "") for clip_id in p.clip_ids.tolist()])
