"""Logs that keep what they are told."""

from embedcache.encoder import Log


def notes_into(said: list[str]) -> Log:
    """A log without the note that a small dataset is not searched for near copies."""
    return lambda line: said.append(line) if "near copies" not in line else None
