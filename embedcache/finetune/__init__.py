"""Fine-tuning: another way to make an encoder. The result is a checkpoint that `ser extract --encoder DIR` takes.

    settings    pooling, trained layers, learning rate, epochs, …
    clips       clips as batches, cropped and padded
    network     the encoder and its classifier; padding does not change the result
    job         the clips and settings of a run, and the checks before training
    training    the run of transformers' Trainer: early stopping and errors
    scratch     the folder beside a checkpoint from which a run is resumed
    checkpoint  the folder that is written, and the classifier read back from it

The caller passes the training clips, and the development clips for early stopping; folds belong to stage 2.
May import: `encoders`, `cache`, `audio`, `files` and the modules directly in `embedcache`. Needs the extra `finetune`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
