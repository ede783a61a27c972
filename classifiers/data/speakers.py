"""One person under several names: the speakers of combined datasets that count as one.

Two datasets may have recordings of the same person. In a union of datasets this person must stay in one part of a fold,
and `ser cross` must not test on a person that it has trained on. What is known:

- Datasets of one corpus name their speakers alike: `named_clips` gives both speakers the name `corpus:speaker`.
- A recording has one speaker. Speakers of two datasets that share a recording, byte for byte, are one person.
- Equal names in two datasets of one's own may be one person or two. Only the user knows: `same_names` is "one" or
  "two". Published datasets number their speakers each for itself, so their names say nothing about other datasets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache import ConfigError, DataError, Manifest
from embedcache.manifest import Clip, is_unknown
from embedcache.provenance import TrainedOn, speakers_of
from embedcache.text import count, examples, normal_name

ONE, TWO = "one", "two"  # values of `same_names`; "" is an error if there are equal names


def people_of(manifests: Sequence[Manifest], same_names: str = "") -> dict[str, str]:
    """Return, for speakers of combined datasets that have several names, the one name under which they count.

    Names are those of `speakers_of`. Raises ConfigError if `same_names` is not "one", "two" or "", and DataError if it
    is "" and two datasets of one's own have speakers with equal names who may be one person or two.
    """
    _check_same_names(same_names)
    if len(manifests) < 2:
        return {}
    by_recording, by_name = _speakers_by_recording(manifests), _own_speakers_by_name(manifests)
    if same_names == ONE:
        return _join([*by_recording.values(), *by_name.values()])
    people = _join(by_recording.values())
    unclear = {name: who for name, who in by_name.items() if len({people.get(one, one) for one in who}) > 1}
    if unclear and not same_names:
        own = sorted({speaker.partition(":")[0] for who in unclear.values() for speaker in who})
        raise DataError(_question(sorted(unclear), f"{' and '.join(own)} have speakers of the same names"))
    return people


def seen_in_training(
    trained_on: TrainedOn, clips: Sequence[Clip], speakers: Sequence[str], same_names: str = ""
) -> NDArray[np.bool_]:
    """Return for each clip (n,) whether an encoder was fine-tuned on the clip or on its speaker.

    `speakers` (n,) are the names under which the speakers of the clips count: if one clip of a person was trained on,
    the person was. Raises DataError as `people_of`, for the names of the training speakers and those of the clips.
    """
    seen = np.array(trained_on.covers(clips))
    namesakes = np.array(trained_on.namesakes(clips)) & ~_of_people(speakers, seen)
    if namesakes.any() and not same_names:
        names = sorted({clip.speaker for clip, asked in zip(clips, namesakes, strict=True) if asked})
        raise DataError(_question(names, "the encoder was fine-tuned on another dataset with speakers of these names"))
    return _of_people(speakers, seen | namesakes if same_names == ONE else seen)


def people_notes(speakers: Iterable[str], own_speakers: Iterable[str]) -> list[str]:
    """Return a sentence about the speakers with several names; no sentence if there are none.

    `speakers` (n,) are the names under which the speakers of clips count, `own_speakers` (n,) those of the datasets.
    """
    names = defaultdict(set)
    for person, name in zip(speakers, own_speakers, strict=True):
        names[str(person)].add(str(name))
    several = [" = ".join(sorted(who)) for _, who in sorted(names.items()) if len(who) > 1]
    if not several:
        return []
    reason = "they share a recording, or --same-names one says so"
    return [
        f"{count(len(several), 'speaker')} with several names count as one person each ({examples(several)}): {reason}"
    ]


def _check_same_names(same_names: str) -> None:
    if same_names not in ("", ONE, TWO):
        raise ConfigError(
            f"got --same-names {same_names}; wanted {ONE} if equal names in two datasets of your own are one person, "
            f"or {TWO} if they are two people."
        )


def _question(names: Sequence[str], finding: str) -> str:
    return (
        f"{finding}: {examples(names)}. Are equal names one person? If so, use --same-names {ONE}; if they are two "
        f"people, use --same-names {TWO}. If some are one and others two, give the two other names, and extract again."
    )


def _of_people(speakers: Sequence[str], rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which clips (n,) are of the same people as the clips in `rows` (n,)."""
    names = np.array(speakers)
    return np.isin(names, names[rows])


def _speakers_by_recording(manifests: Iterable[Manifest]) -> Mapping[str, set[str]]:
    speakers: defaultdict[str, set[str]] = defaultdict(set)
    for clip, speaker in _usable(manifests):
        if clip.key:
            speakers[clip.key].add(speaker)
    return speakers


def _own_speakers_by_name(manifests: Iterable[Manifest]) -> Mapping[str, set[str]]:
    """Return the speakers of datasets of one's own by the form in which names are compared."""
    speakers: defaultdict[str, set[str]] = defaultdict(set)
    for clip, speaker in _usable(manifest for manifest in manifests if manifest.is_own):
        speakers[normal_name(clip.speaker)].add(speaker)
    return speakers


def _usable(manifests: Iterable[Manifest]) -> Iterator[tuple[Clip, str]]:
    """Yield the usable clips of known speakers, with the names of their speakers."""
    for manifest in manifests:
        clips = [clip for clip in manifest.usable if not is_unknown(clip.speaker)]
        yield from zip(clips, speakers_of(clips), strict=True)


def _join(groups: Iterable[Collection[str]]) -> dict[str, str]:
    """Return the first name, in alphabetical order, for each name that is in one group with another, even by a chain.

    `_join([{"a", "b"}, {"b", "c"}, {"d"}])` returns `{"a": "a", "b": "a", "c": "a"}`.
    """
    sets: dict[str, set[str]] = {}
    for group in groups:
        joined = set(group).union(*(sets[name] for name in group if name in sets)) if len(group) > 1 else set()
        sets |= dict.fromkeys(joined, joined)
    return {name: min(members) for name, members in sets.items()}
