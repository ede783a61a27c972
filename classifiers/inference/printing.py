"""Predictions on standard output as they come, in the format that fits where they go."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from embedcache.terminal import console, note

from .audio_files import FileResult
from .output_formats import OutputFormat, csv_lines, json_lines, table_lines
from .speakers import adaptation_note
from .vector_predictions import VectorPredictor


def print_vector_predictions(
    model: Path, files: Sequence[str], as_json: bool = False, abstain_below: float | None = None, speaker: str = ""
) -> None:
    """Print the predictions of files of vectors, as those of recordings are printed. Raises as `VectorPredictor`."""
    predictor = VectorPredictor.load(model, speaker)
    note(f"note: predicts vectors as those of {predictor.card.encoder}, which the head was fitted on.")
    if line := adaptation_note([(model.name, predictor.card.adapted)], speaker):
        note(f"note: {line}.")
    predictions = (p for file in files for p in predictor.predict(file, abstain_below))
    output = output_format(predictor.labels, files, False, as_json)
    print_predictions((FileResult(p.path, (p,)) for p in predictions), output, abstain_below)


def output_format(labels: Sequence[str], paths: Sequence[str], timed: bool, as_json: bool) -> OutputFormat:
    """The format of predictions: JSON if asked for, else a table on a terminal and CSV through a pipe."""
    if as_json:
        return json_lines()
    return table_lines(labels, paths, timed, console().width) if sys.stdout.isatty() else csv_lines(labels)


def print_predictions(results: Iterable[FileResult], output: OutputFormat, abstain_below: float | None) -> int:
    """Print predictions as they come, note the files that failed, and return their number."""
    failed, unsure, unlike, shown = 0, 0, 0, 0
    for result in results:
        if result.fault:
            note(f"error: {result.fault}")
            failed += 1
        for p in result.predictions:
            print(*([output.header] if output.header and not shown else []), output.line(p), sep="\n", flush=True)
            shown, unsure, unlike = shown + 1, unsure + (p.label is None), unlike + ((p.training_distance or 0) > 1)
    if shown and (abstain_below is not None or unsure):
        below = "" if abstain_below is None else f": confidence below {abstain_below:g}, or nothing audible"
        note(f"not sure: {unsure} of {shown} ({unsure / shown:.1%}){below}")
    if unlike:
        note(f"unlike the training clips: {unlike} of {shown} ({unlike / shown:.1%}); their confidence was lowered")
    return failed
