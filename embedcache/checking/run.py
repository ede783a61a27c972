"""`ser check`: all checks of an encoder on this machine, in one call."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from .._version import __version__
from ..encoder import Log, no_log
from ..encoders import load_encoder
from ..errors import SerError
from ..progress import Progress, silent
from .machine import machine
from .result import CheckLine, EncoderCheck
from .steps import STEPS, Step
from .subject import Subject


def check(
    name: str, device: str = "auto", precision: str = "fp32", progress: Progress = silent, log: Log = no_log
) -> EncoderCheck:
    """Check an encoder on this machine: memory, speed, two runs, batches, and every layer against transformers.

    The arguments are those of `load_encoder`. The sound is made up. An error in a check becomes a line of the result,
    and the other checks are made nevertheless. `log` receives the notes of the encoder, and the traceback of an error
    that is not a SerError.

    Raises UnknownName or EncoderError if the encoder cannot be loaded.
    """
    notes: list[str] = []
    subject = Subject(load_encoder(name, device, precision, notes.append))
    for line in notes:
        log(line)
    info = subject.encoder.info
    checks: list[CheckLine] = []
    with progress(f"checking {info.name}", total=len(STEPS), unit="checks") as advance:
        for title, step in STEPS.items():
            checks += _run(title, step, subject, log)
            advance(1)
    return EncoderCheck(
        encoder=info.name,
        checkpoint=info.checkpoint,
        engine=subject.engine,
        fingerprint=info.fingerprint,
        device=str(subject.device),
        precision=info.precision,
        ser=__version__,
        machine=machine(),
        notes=tuple(notes),
        checks=tuple(checks),
    )


def _run(title: str, step: Step, subject: Subject, log: Log) -> Iterator[CheckLine]:
    try:
        yield from step(subject)
    except Exception as error:  # an encoder of another package, a driver: errors of any type
        if not isinstance(error, SerError):
            log(traceback.format_exc())
        yield CheckLine.failed(title, error)
