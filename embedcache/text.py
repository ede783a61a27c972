"""Texts: numbers with nouns, names on one line, the command that installs an extra, and names in comparable form."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "ser-toolkit"  # `ser` on PyPI is a project of other people
# Characters that are not seen, although Unicode calls them letters, marks or symbols instead of format characters.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Characters that break a line, steer a terminal, reverse the text after them, or cannot be encoded (parts of a pair).
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LEADING_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")  # not those after a decimal point: 1.05 is not 1.5
WHOLE_NUMBER = re.compile(r"([+-]?\d+)[.,]0*")  # 1.0 or 1,0, as a table with missing numbers spells 1


def count(n: int, noun: str) -> str:
    """Return a number with its noun: `1 clip`, `2 clips`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def numbered(names: Iterable[str], joint: str = "-") -> list[str]:
    """Return names that all differ: one that an earlier one has already gets a number.

    >>> numbered(["a", "b", "a", "a-2"])
    ['a', 'b', 'a-2', 'a-2-2']
    """
    found: dict[str, None] = {}
    for name in names:
        variants = itertools.chain([name], (f"{name}{joint}{number}" for number in itertools.count(2)))
        found[next(variant for variant in variants if variant not in found)] = None
    return list(found)


def one_line(text: str) -> str:
    """Return a text with the escapes of its control characters, so that any file name fits in one line of a message.

    A newline becomes `\\n`, the start of a terminal's command `\\x1b`, a byte of a name that is not UTF-8 `\\xff`. A
    text without such characters stays as it is.
    """
    return UNPRINTABLE.sub(lambda char: escaped(char[0]), text)


def escaped(char: str) -> str:
    """Return the escape of a character; of a byte for which the name of a file has a lone surrogate (PEP 383)."""
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def examples(texts: Sequence[str], most: int = 3) -> str:
    """Return the first texts, and the number of the others: `a, b, c and 2 more`."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{', '.join(texts[:most])}{more}"


def quoted(name: str) -> str:
    """Return a name in quotes, with the escapes of its characters if a reader may not see in what it differs."""
    return repr(name) if name.isascii() else f"{name!r} = {name!a}"


def normal_name(name: str) -> str:
    """Return the form in which the names of speakers are compared; names with the same form are one person's.

    No difference is made by upper and lower case, by the form of a character (Unicode NFKC), by blanks at the ends and
    the number of blanks, by characters that are not seen, by leading zeros, and by the end of `1.0`: `Ann  B`, `ann b`
    and a full-width `ＡＮＮ Ｂ` are one name, and so are `1`, `01` and `1.0`. `1.1` and `1.10` are two.
    """
    while (simpler := _simplify(name)) != name:
        name = simpler  # a step may make room for an earlier one, as the end of an unseen character for a blank
    return name


def common_spellings(names: Sequence[str]) -> dict[str, str]:
    """Return name -> spelling for the names that are to be replaced, so that names with one `normal_name` are equal.

    The spelling is the most frequent one, without characters that are not seen; of equally frequent ones the shortest,
    then the one in lower case: `Sad, sad, sad, happy` gives `{"Sad": "sad"}`.
    """
    times = Counter(names)
    groups = defaultdict(list)
    for name in times:
        groups[normal_name(name)].append(name)
    chosen: dict[str, str] = {}
    for group in groups.values():
        common = min(group, key=lambda name: (-times[name], len(name), name != name.lower(), name))
        seen = without_unseen(" ".join(unicodedata.normalize("NFC", common).split()))
        chosen |= {name: seen for name in group if name != seen and seen}
    return chosen


def without_unseen(text: str) -> str:
    """Return a text without characters that are not seen, such as blanks of no width and byte order marks."""
    text = UNSEEN.sub("", text)
    return "".join(char for char in text if unicodedata.category(char) not in ("Cc", "Cf")).strip()


def _simplify(name: str) -> str:
    # Decomposed first, as Unicode's definition of caseless matching (D145): folding case may reorder marks.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", name).casefold())
    text = without_unseen(" ".join(text.split()))
    text = re.sub(r"\d", lambda digit: str(unicodedata.decimal(digit[0])), text)
    whole = WHOLE_NUMBER.fullmatch(text)
    return LEADING_ZEROS.sub("", whole[1] if whole else text)


def install_hint(extra: str) -> str:
    """Return the pip command that installs an extra of this distribution into the running Python.

    A distribution that was installed from a checkout, a folder or a wheel is named by that path, and any other by the
    name of the distribution.
    """
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    path, editable = _origin()
    if path is None or not path.exists():
        return f"{pip} {shlex.quote(f'{DISTRIBUTION}[{extra}]')}"
    return f"{pip} {'--editable ' if editable else ''}{shlex.quote(f'{path}[{extra}]')}"


def _origin() -> tuple[Path | None, bool]:
    """Return the folder or wheel that this distribution was installed from, and whether the installation is editable.

    The path is None if the distribution was installed from a package index. pip writes the path into `direct_url.json`
    (PEP 610). For a checkout that was never installed, the path is the checkout itself.
    """
    try:
        origin = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return Path(__file__).parent.parent, True
    url = urlsplit(origin.get("url", ""))
    path = Path(unquote(url.path)) if url.scheme == "file" else None
    return path, bool(origin.get("dir_info", {}).get("editable"))
