"""Networks whose input always lasts the same time, of which silence fills the end: Whisper's encoder and AST.

Clips of any lengths share a forward pass, and only the frames of the clip itself are pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TOGETHER = {"cpu": 1, "cuda": 16}  # clips in one forward pass, of any lengths
HOP = 160  # samples from one window of a spectrogram to the next, in both networks


@dataclass(frozen=True)
class FixedInput:
    """The input of one network, and its frames."""

    seconds: float  # duration of the input; longer clips would be cut
    hop: int  # samples from one frame to the next
    is_light: bool  # whether one forward pass takes a second at most, so that an encoder can be tried when it is loaded
    frames_of: Callable[[Any], Any]  # hidden state (n, tokens, D) -> frames (n, T, D)

    def count_frames(self, samples: int) -> int:
        """Return the number of frames that begin within a clip: with a hop of 320, 25 in a clip of 8,000 samples."""
        return -(-samples // self.hop)


def fixed_input(config: Any, features: Any) -> FixedInput | None:
    """Return the input of a network of transformers; None if the input is as long as the clip."""
    make = MAKERS.get(config.model_type)
    return make(config, features) if make else None


def _whisper(config: Any, features: Any) -> FixedInput:
    """Return 30 s; a frame of the network is two windows of the spectrogram."""
    return FixedInput(30.0, 2 * features.hop_length, False, lambda state: state)


def _ast(config: Any, features: Any) -> FixedInput:
    """Return 10.24 s for the published networks, whose tokens are patches of 16 bands by 16 windows.

    Two tokens come first, which stand for the whole input; they are left out. Then come the patches, of which one
    begins every 10 bands and every 10 windows, band by band. A frame is the mean over the bands.
    """
    bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    seconds = config.max_length * HOP / features.sampling_rate

    def frames_of(state: Any) -> Any:
        return state[:, 2:].unflatten(1, (bands, -1)).mean(1)

    return FixedInput(seconds, config.time_stride * HOP, True, frames_of)


MAKERS: Mapping[str, Callable[[Any, Any], FixedInput]] = {"whisper": _whisper, "audio-spectrogram-transformer": _ast}
