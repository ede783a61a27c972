"""Fine-tuning: another way to make an encoder. The result is a checkpoint that `ser extract --encoder DIR` takes.

    settings    pooling, trained layers, learning rate, epochs, …
    clips       clips as batches, cropped and padded
    network     the encoder and the classifier on it; padding changes nothing
    job         what is trained on, and the checks before training
    training    transformers' Trainer: early stopping, what may go wrong
    scratch     the folder beside a checkpoint from which a run is resumed
    checkpoint  the folder that is written, and the classifier read back from it

The caller says which clips are trained on and which decide when training stops; folds belong to stage 2.
May import: `encoders`, `cache`, `audio`, `files` and the modules directly in `embedcache`. Needs the extra `finetune`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
