"""Where the datasets that anybody may fetch lie: the files, their sizes and checksums, as far as they are published.

Each function is given one that fetches a small document, for the servers that list their files.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..dataset import Remote
from ..errors import DataError

Get = Callable[[str], bytes]

ZENODO = "https://zenodo.org/records/1188976/files"
# The project's own mirror: downloads from GitHub give Git LFS pointers in place of sound. A commit never changes.
CREMAD = "https://gitlab.com/cs-cooper-lab/crema-d-mirror/-/raw/d15eeed6a139e9724483ed9a2fc4643f88708b79"
BOREALIS = "https://borealisdata.ca/api"
TESS = "doi:10.5683/SP2/E8H2MF"
EMODB = "http://emodb.bilderbar.info/download/download.zip"  # as its page names it


def ravdess_speech(get: Get) -> list[Remote]:
    """The archive of the speech; size and MD5 are those that Zenodo gives."""
    return [_zenodo("Audio_Speech_Actors_01-24.zip", 208_468_073, "bc696df654c87fed845eb13823edef8a")]


def ravdess_song(get: Get) -> list[Remote]:
    """The archive of the song; size and MD5 are those that Zenodo gives."""
    return [_zenodo("Audio_Song_Actors_01-24.zip", 225_505_317, "5411230427d67a21e18aa4d466e6d1b9")]


def cremad(get: Get) -> list[Remote]:
    """7,442 clips of known SHA-256, and the table of the actors, for which none is published."""
    table = "VideoDemographics.csv"
    clips = [
        Remote(f"{CREMAD}/AudioWAV/{stem}.wav", f"AudioWAV/{stem}.wav", size, f"sha256:{sha256}")
        for stem, (sha256, size) in _cremad_files().items()
    ]
    return [Remote(f"{CREMAD}/{table}", table), *clips]


def cremad_checksums() -> Mapping[str, str]:
    """The SHA-256 of each clip, by its stem."""
    return {stem: sha256 for stem, (sha256, _) in _cremad_files().items()}


def tess(get: Get) -> list[Remote]:
    """The clips that the Dataverse lists, with its sizes and MD5. Raises DataError for a listing of another form."""
    address = f"{BOREALIS}/datasets/:persistentId/?persistentId={TESS}"
    try:
        files = [entry | entry["dataFile"] for entry in json.loads(get(address))["data"]["latestVersion"]["files"]]
        return [_tess_clip(file) for file in files if file["filename"].lower().endswith(".wav")]
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        advice = "See with a browser whether it is there; the list is expected in Dataverse's form."
        raise DataError(f"{address}: is not the list of TESS's files ({reason}). {advice}") from error


def emodb(get: Get) -> list[Remote]:
    """The one archive. Neither its size nor a checksum is published."""
    return [Remote(EMODB, "download.zip")]


def _zenodo(name: str, size: int, md5: str) -> Remote:
    return Remote(f"{ZENODO}/{name}?download=1", name, size, f"md5:{md5}")


def _tess_clip(file: dict[str, Any]) -> Remote:
    path = "/".join(filter(None, (file.get("directoryLabel"), file["filename"])))
    return Remote(f"{BOREALIS}/access/datafile/{int(file['id'])}", path, int(file["filesize"]), f"md5:{file['md5']}")


@functools.cache
def _cremad_files() -> dict[str, tuple[str, int]]:
    """SHA-256 and bytes of each clip by its stem, from the pointers in CheyneyComputerScience/CREMA-D at 1658cd34."""
    packed = Path(__file__).with_name("_cremad.sha256.gz").read_bytes()
    rows = (line.split() for line in gzip.decompress(packed).decode().splitlines())
    return {stem: (sha256, int(size)) for sha256, stem, size in rows}
