"""What the output folder still has about the clips of a run: manifest entries, recordings and embeddings.

All of these can be deleted after the run. The result then has a reason, a sentence for the report, instead of the data;
no error is raised.
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
from embedcache.audio.clip_recordings import file_order, forget_files, recording_of
from embedcache.cache.store import store_folders
from embedcache.errors import first_line
from embedcache.manifest import Clip
from embedcache.text import one_line

from ..data.listed_clips import load_manifests
from ..data.speakers import TWO
from ..data.task import Strings, Task
from ..evaluation.predictions import Predictions

MAX_AUDIO = 4_000_000  # characters of all recordings in a page
MAX_POINTS = 2000  # clips on a map
NEIGHBOURS = 10  # nearest clips of a clip that are compared with it
MIN_POINTS = 5  # a map of fewer clips shows nothing
SEED = 0  # random seed for the selection of clips and for t-SNE
COMPONENTS = 50  # number of principal components that are the input of t-SNE
# Steps of t-SNE: half of scikit-learn's default, in little more than half of the time. On MFCC statistics of RAVDESS,
# the divergence that it lowers is then 0.94 instead of 0.90, and it keeps 0.59 of the ten nearest neighbours, not 0.58.
STEPS = 500
INITIAL_SPREAD = 1e-4  # standard deviation of the initial positions of t-SNE, as scikit-learn recommends


@dataclass(frozen=True)
class ClipFacts:
    """The manifest entries of the clips of a dataset, or the reason why there are none."""

    clips: Mapping[str, Clip] = field(default_factory=dict)  # by clip id, as the run names the clips
    datasets: tuple[str, ...] = ()  # names of the datasets whose manifests were read
    reason: str = ""


@dataclass(frozen=True)
class ClipAudio:
    """A recording as a data URI, or the reason why there is none."""

    uri: str = ""
    reason: str = ""


@dataclass(frozen=True)
class VectorMap:
    """The embeddings of clips in two dimensions, or the reason why there are none."""

    title: str
    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))  # (n, 2) positions, by t-SNE
    labels: tuple[str, ...] = ()  # of the n clips
    speakers: tuple[str, ...] = ()  # of the n clips
    n_clips: int = 0  # number of clips with embeddings, of which the n clips are a random selection
    neighbours: str = ""  # sentence on how often the nearest clips share label or speaker
    reason: str = ""


def clip_facts(artifacts: Artifacts, dataset: str) -> ClipFacts:
    """Return the manifest entries of the test clips of a run.

    `dataset` is the name of a dataset, `a+b` for a run on two datasets, or `a->b` for a run that trained on `a` and
    tested on `b`.
    """
    tested = dataset.rpartition("->")[2]
    try:
        manifests = _load_manifests(artifacts, tested)
    except SerError as error:
        return ClipFacts(reason=f"The manifest of {tested} was not found: {_message(error, artifacts.root)}")
    prefixed = len(manifests) > 1
    clips = {f"{m.dataset}:{c.clip_id}" if prefixed else c.clip_id: c for m in manifests for c in m.clips}
    return ClipFacts(clips, tuple(manifest.dataset for manifest in manifests))


def clip_audio(clips: Sequence[Clip]) -> dict[str, ClipAudio]:
    """Return the recordings of clips, by key, until MAX_AUDIO is reached.

    A clip that is listed twice is embedded in the page twice, so its size counts twice.
    """
    left, audio, times = MAX_AUDIO, {}, Counter(clip.key for clip in clips)
    distinct = list({clip.key: clip for clip in clips}.values())
    loaded = {distinct[place].key: _load_audio(distinct[place]) for place in file_order(distinct)}
    forget_files()
    for key in (clip.key for clip in distinct):
        recording = loaded[key]
        if times[key] * len(recording.uri) > left:
            reason = f"Left out: the recordings of a page are limited to {MAX_AUDIO / 1e6:g} MB in total."
            recording = ClipAudio(reason=reason)
        left -= times[key] * len(recording.uri)
        audio[key] = recording
    return audio


def vector_map(p: Predictions, facts: ClipFacts, artifacts: Artifacts) -> VectorMap:
    """Return a map of the pooled embeddings, of the last layer, of the test clips of a run."""
    title = f"{p.dataset}, {p.encoder}"
    if facts.reason:
        return VectorMap(title, reason=facts.reason)
    stores = [f.name for f in store_folders(artifacts.cache) if f.name.endswith(f"-{p.fingerprint[:12]}")]
    encoder = (stores or [p.encoder])[0]  # vectors that were joined have no store of their own
    try:
        task = Task.load(facts.datasets, encoder, "pooled", artifacts, same_names=TWO)  # the run says who is whom
    except SerError as error:
        return VectorMap(title, reason=f"The embeddings were not found: {_message(error, artifacts.root)}")
    if task.fingerprint != p.fingerprint:
        return VectorMap(title, reason="The embeddings were not found: the cache has none of this encoder.")
    rows = np.flatnonzero(np.isin(task.ids, p.clip_ids))
    if len(rows) < MIN_POINTS:
        return VectorMap(title, reason=f"Only {len(rows)} of the clips have embeddings: too few for a map.")
    selected = rows
    if len(rows) > MAX_POINTS:
        selected = np.sort(np.random.default_rng(SEED).choice(rows, MAX_POINTS, replace=False))
    label_of = dict(zip(p.clip_ids.tolist(), p.truth.tolist(), strict=True))  # in the label view of the run
    labels = tuple(label_of[clip_id] for clip_id in task.ids[selected].tolist())
    speaker_of = dict(zip(p.clip_ids.tolist(), p.speakers.tolist(), strict=True))
    speakers = tuple(speaker_of[clip_id] for clip_id in task.ids[selected].tolist())
    points, reduced = _project(np.asarray(task.X[selected], dtype=np.float64))
    return VectorMap(title, points, labels, speakers, len(rows), _neighbours_text(reduced, labels, speakers))


def clip_column(p: Predictions, facts: ClipFacts, name: str) -> Strings:
    """Return the gender, or another column of the manifest, of the clip of each row (n,); "" if it is unknown."""
    values = {i: clip.gender if name == "gender" else clip.extra.get(name, "") for i, clip in facts.clips.items()}
    return np.array([values.get(clip_id, "") for clip_id in p.clip_ids.tolist()])


def _project(X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the standardised rows of X (n, d) in two dimensions by t-SNE (n, 2), and their components (n, k).

    With one thread, sums have a fixed order, so the same rows give the same map.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    with threadpool_limits(1):
        n = min(COMPONENTS, *X.shape)
        reduced = PCA(n, random_state=SEED).fit_transform(StandardScaler().fit_transform(X))
        tsne = TSNE(
            perplexity=min(30.0, (len(X) - 1) / 3),
            max_iter=STEPS,
            init=_initial_points(np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - n))))),
            random_state=SEED,
            n_jobs=1,
        )
        return tsne.fit_transform(reduced.astype(np.float32)).astype(np.float64), reduced


def _neighbours_text(X: NDArray[np.float64], labels: Sequence[str], speakers: Sequence[str]) -> str:
    """Return a sentence on how many of the nearest clips of a clip share its label or its speaker.

    `X` (n, k) are the components of the embeddings, not their positions on the map.
    """
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(X) - 1)
    with threadpool_limits(1):
        nearest = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)
    shares = [_shared(np.array(column), nearest) for column in (labels, speakers)]
    (label, label_chance), (speaker, speaker_chance) = ((100 * a, 100 * b) for a, b in shares)
    return (
        f"Of the {k} nearest clips of a clip, {label:.0f} % have its label ({label_chance:.0f} % of all other clips "
        f"do), and {speaker:.0f} % its speaker ({speaker_chance:.0f} %)."
    )


def _shared(values: Strings, nearest: NDArray[np.int64]) -> tuple[float, float]:
    """Return the share of the nearest clips (n, k), and of all other clips, that have the value of a clip (n,)."""
    sizes = np.unique(values, return_inverse=True, return_counts=True)
    others = (sizes[2][sizes[1]] - 1) / (len(values) - 1)
    return float((values[nearest] == values[:, None]).mean()), float(others.mean())


def _initial_points(pca: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the initial positions of t-SNE (n, 2): those of PCA, scaled down."""
    spread = float(pca[:, 0].std()) or 1.0
    return (pca / spread * INITIAL_SPREAD).astype(np.float32)


def _load_manifests(artifacts: Artifacts, dataset: str) -> list[Manifest]:
    """Return the manifest of a dataset, or the manifests of `a+b`, unless there is a dataset named `a+b`."""
    if artifacts.manifest(dataset) in artifacts.manifest_paths or "+" not in dataset:
        return load_manifests(artifacts, [dataset])
    return load_manifests(artifacts, dataset.split("+"))


def _load_audio(clip: Clip) -> ClipAudio:
    if not clip.path:
        return ClipAudio(reason="There is no recording: the vectors were imported.")
    try:
        recording = recording_of(clip)
        if recording.key != clip.key:
            return ClipAudio(reason="The file was changed after its extraction: it is a different recording.")
        return ClipAudio(f"data:audio/flac;base64,{b64encode(recording.flac()).decode('ascii')}")
    except SerError as error:
        return ClipAudio(reason=f"The recording cannot be read: {_message(error, Path(clip.path))}")


def _message(error: SerError, path: Path) -> str:
    """Return the first line of an error's message, without the folder of `path`: readers need not know the folder."""
    return first_line(error).replace(one_line(str(path)), one_line(path.name))
