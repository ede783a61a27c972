"""The remote files of the datasets that can be downloaded without an application.

Each function returns the files of one dataset with their sizes and checksums, as far as these are published. The
argument `get` fetches a small document, which is needed where a server lists its files.
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

Get = Callable[[str], bytes]  # fetch the document at a URL

ZENODO = "https://zenodo.org/records/1188976/files"
# The mirror of the CREMA-D project itself: downloads from GitHub give Git LFS pointers instead of audio. The address
# names a commit, so the files never change.
CREMAD = "https://gitlab.com/cs-cooper-lab/crema-d-mirror/-/raw/d15eeed6a139e9724483ed9a2fc4643f88708b79"
BOREALIS = "https://borealisdata.ca/api"
TESS = "doi:10.5683/SP2/E8H2MF"
EMODB = "http://emodb.bilderbar.info/download/download.zip"  # the address on the page of the dataset


def ravdess_speech(get: Get) -> list[Remote]:
    """Return the archive of the speech clips, with the size and MD5 given by Zenodo."""
    return [_zenodo("Audio_Speech_Actors_01-24.zip", 208_468_073, "bc696df654c87fed845eb13823edef8a")]


def ravdess_song(get: Get) -> list[Remote]:
    """Return the archive of the song clips, with the size and MD5 given by Zenodo."""
    return [_zenodo("Audio_Song_Actors_01-24.zip", 225_505_317, "5411230427d67a21e18aa4d466e6d1b9")]


def cremad(get: Get) -> list[Remote]:
    """Return the 7,442 clips with their SHA-256, and the table of the actors, whose checksum is not published."""
    table = "VideoDemographics.csv"
    clips = [
        Remote(f"{CREMAD}/AudioWAV/{stem}.wav", f"AudioWAV/{stem}.wav", size, f"sha256:{sha256}")
        for stem, (sha256, size) in _cremad_files().items()
    ]
    return [Remote(f"{CREMAD}/{table}", table), *clips]


def cremad_checksums() -> Mapping[str, str]:
    """Return the SHA-256 of each clip, by file name without suffix."""
    return {stem: sha256 for stem, (sha256, _) in _cremad_files().items()}


def tess(get: Get) -> list[Remote]:
    """Return the clips listed by the Dataverse server, with the sizes and MD5 given there.

    Raises DataError if the list does not have the expected form.
    """
    address = f"{BOREALIS}/datasets/:persistentId/?persistentId={TESS}"
    try:
        files = [entry | entry["dataFile"] for entry in json.loads(get(address))["data"]["latestVersion"]["files"]]
        return [_tess_clip(file) for file in files if file["filename"].lower().endswith(".wav")]
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        advice = "Wanted a file list in the format of Dataverse. Open the address in a browser to check it."
        raise DataError(f"{address}: not a list of TESS files ({reason}). {advice}") from error


def emodb(get: Get) -> list[Remote]:
    """Return the only archive. Neither its size nor its checksum is published."""
    return [Remote(EMODB, "download.zip")]


def _zenodo(name: str, size: int, md5: str) -> Remote:
    return Remote(f"{ZENODO}/{name}?download=1", name, size, f"md5:{md5}")


def _tess_clip(file: dict[str, Any]) -> Remote:
    path = "/".join(filter(None, (file.get("directoryLabel"), file["filename"])))
    return Remote(f"{BOREALIS}/access/datafile/{int(file['id'])}", path, int(file["filesize"]), f"md5:{file['md5']}")


@functools.cache
def _cremad_files() -> dict[str, tuple[str, int]]:
    """Return SHA-256 and size in bytes of each clip, by file name without suffix.

    The values are those of the Git LFS pointers in CheyneyComputerScience/CREMA-D at commit 1658cd34.
    """
    packed = Path(__file__).with_name("_cremad.sha256.gz").read_bytes()
    rows = (line.split() for line in gzip.decompress(packed).decode().splitlines())
    return {stem: (sha256, int(size)) for sha256, stem, size in rows}
