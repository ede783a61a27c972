"""Fine-tuning: one more way to make an encoder. What comes out is a checkpoint that `ser extract --encoder DIR` takes.

    settings    what is asked: pooling, layers to train, rates, epochs
    clips       clips as batches, cropped and padded
    network     the encoder and the classifier on it; padding changes nothing
    training    transformers' Trainer around them: early stopping, resuming, what may go wrong
    checkpoint  the folder that is written, and the classifier read back from it

It is told which clips to train on and which to stop early by; folds are stage 2's. Needs the extra
 [finetune].
"""

from .checkpoint import CheckpointCard, Finetuned
from .settings import FinetuneSettings
from .training import train

__all__ = ["CheckpointCard", "FinetuneSettings", "Finetuned", "train"]
