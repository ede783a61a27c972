"""Words for messages: a number with its noun."""


def count(n: int, what: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
