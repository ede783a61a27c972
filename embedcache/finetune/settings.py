"""What a fine-tuning run is asked. Everything here decides the weights that come out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from ..audio.augment import Augmentation
from ..encoder import PRECISIONS
from ..errors import SerError

WHOLE = "whole"  # the file in a checkpoint of training that says that the others are on the disk
MLP, SEQUENCE = "mlp", "sequence"
CLASSIFIERS = (MLP, SEQUENCE)
POOLINGS = ("mean", "attention")
SCHEDULES = ("linear", "cosine", "constant")
ENCODER, ALL, TOP = "encoder", "all", "top:"
MOST_UNITS, MOST_LAYERS = 4096, 4  # of the layers between
HIDDEN = f"numbers of units from 1 to {MOST_UNITS}, of at most {MOST_LAYERS} layers"
LONGEST = 60.0  # seconds of a crop: attention over more frames is a matter of hours


@dataclass(frozen=True)
class FinetuneSettings:
    """How a checkpoint is fine-tuned. Raises SerError for what makes no sense, or needs an extra that is not here.

    `classifier` is `mlp`, `pooling` over the frames of the last layer and layers of `hidden` units with ReLU and
    `dropout`; or `sequence`, transformers' own `…ForSequenceClassification`, which has no such choices.
    """

    classifier: str = MLP
    pooling: str = "mean"  # "attention": softmax over frames of w·tanh(V h)
    hidden: tuple[int, ...] = (256,)
    dropout: float = 0.1
    unfreeze: str = ENCODER  # all but the convolutions; "all"; "top:N": the last N blocks
    seconds: float = 5.0  # longer clips are cropped: anywhere in training, to their middle elsewhere
    epochs: int = 15
    batch_size: int = 16
    accumulate: int = 1  # batches before a step
    lr: float = 3e-5
    layer_decay: float = 1.0  # of the rate, a block further down
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the steps in which the rate grows
    schedule: str = "linear"  # how it falls then
    patience: int = 5  # epochs without a better UAR on the development speakers; 0: there are none
    class_weights: bool = False  # each label counts the same, however many clips it has
    spec_augment: float = 0.05  # share of frames that are masked in training, in spans, as transformers does; 0: none
    augment: tuple[str, ...] = ()  # transforms of `augment.py`; each epoch hears another copy of each clip
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choice, choices in _choices(self):
            if choice not in choices:
                raise SerError(f"{name}: got '{choice}'; wanted one of {', '.join(choices)}.")
        for name, fits, wanted in _ranges(self):
            if not fits:
                got = getattr(self, name)
                shown = ",".join(map(str, got)) if isinstance(got, tuple) else f"{got:g}"
                raise SerError(f"{name.replace('_', '-')}: got {shown}; wanted {wanted}.")
        if self.unfreeze not in (ENCODER, ALL) and self.top is None:
            raise SerError(f"unfreeze: got '{self.unfreeze}'; wanted encoder, all, or top:N with N from 1.")
        if self.classifier == SEQUENCE and (self.pooling, self.hidden) != (
            FinetuneSettings.pooling,
            FinetuneSettings.hidden,
        ):
            raise SerError("transformers' sequence classifier pools in its own way: leave --pooling and --hidden out.")
        if self.augment:
            Augmentation(self.augment, seed=self.seed)  # raises for what it does not know

    @property
    def top(self) -> int | None:
        """The N of `top:N`."""
        number = self.unfreeze.removeprefix(TOP)
        good = self.unfreeze.startswith(TOP) and number.isdecimal() and int(number) > 0
        return int(number) if good else None

    @property
    def called(self) -> str:
        """What sets the classifier apart: `mean`, `attention` or `sequence`."""
        return SEQUENCE if self.classifier == SEQUENCE else self.pooling


def _choices(s: FinetuneSettings) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return (
        ("classifier", s.classifier, CLASSIFIERS),
        ("pooling", s.pooling, POOLINGS),
        ("schedule", s.schedule, SCHEDULES),
        ("precision", s.precision, PRECISIONS),
    )


def _ranges(s: FinetuneSettings) -> tuple[tuple[str, bool, str], ...]:
    return (
        ("hidden", all(0 < units <= MOST_UNITS for units in s.hidden) and len(s.hidden) <= MOST_LAYERS, HIDDEN),
        ("dropout", 0 <= s.dropout < 1, "0 or more, below 1"),
        ("seconds", 0 < s.seconds <= LONGEST, f"above 0, up to {LONGEST:g}"),
        ("epochs", s.epochs > 0, "1 or more"),
        ("batch_size", s.batch_size > 0, "1 or more"),
        ("accumulate", s.accumulate > 0, "1 or more"),
        ("lr", 0 < s.lr < 1, "above 0, below 1"),
        ("layer_decay", 0 < s.layer_decay <= 1, "above 0, up to 1"),
        ("weight_decay", 0 <= s.weight_decay < 1, "0 or more, below 1"),
        ("warmup", 0 <= s.warmup < 1, "a share of the steps, 0 or more, below 1"),
        ("patience", s.patience >= 0, "0 or more"),
        ("spec_augment", 0 <= s.spec_augment < 1, "a share of the frames, 0 or more, below 1"),
        ("seed", 0 <= s.seed < 2**32, "0 or more, below 2^32"),
    )


def need_finetune() -> None:
    """Raise SerError where the packages of the extra are not here."""
    if find_spec("accelerate") is None:
        raise SerError("fine-tuning needs accelerate: `pip install 'ser[finetune]'`.")
