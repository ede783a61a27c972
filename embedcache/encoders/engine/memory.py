"""What does not fit into memory: how torch says so, and encoding in parts that fit."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...errors import EncoderError, first_line

# Parts of the messages with which torch ends where memory does: `OutOfMemoryError` of its allocator; `AcceleratorError`
# and RuntimeError of pinned memory and of the driver; and RuntimeErrors of cuBLAS and its relatives, which need memory
# of their own and say that they could not be initialised where there is none.
SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed", "status_not_initialized")
CPU_ADVICE = "end other programs that use the memory"
GPU_ADVICE = "end other programs that use the GPU, or use --device cpu"

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of a GPU or of the machine is too small."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS))


@contextmanager
def explain_load(name: str, device: Any) -> Iterator[None]:
    """Raise EncoderError if the weights of the encoder `name`, which are loaded meanwhile, do not fit into memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _misfit(f"{name}: its weights do", device, "Use a smaller encoder", error) from error


@dataclass
class Memory:
    """The memory of the device of one encoder, which the encoder's lanes share.

    A lane is a thread that encodes. The memory knows the least audio that did not fit, which it learns from failures.
    Audio of that duration or more is split at once, and a lane waits while its audio does not fit beside that of the
    others. A lane that waits holds nothing, so no lane waits for ever.
    """

    name: str  # of the encoder, for messages
    device: Any
    limit: float = math.inf  # least audio that did not fit at once, over all lanes, in seconds
    _held: list[float] = field(default_factory=list)  # seconds of audio of each pack that is being encoded
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def encode(
        self, clips: Sequence[int], seconds: Sequence[float], encode: Callable[[Sequence[int]], Result]
    ) -> list[tuple[Sequence[int], Result]]:
        """Call `encode` with the numbers of all clips, or of halves of them, and so on, if they do not fit together.

        `seconds` holds the durations of all clips by their number. Returns the parts, in order, each with its result.
        Raises EncoderError if a single clip does not fit while no other lane encodes.
        """
        total = sum(seconds[clip] for clip in clips)
        if len(clips) == 1 or total < self.limit:
            result = self._try(clips, total, encode)
            if result is not None:
                return [(clips, result)]
        if len(clips) == 1:
            return [(clips, self._encode_alone(clips, total, encode))]
        half = len(clips) // 2
        return [*self.encode(clips[:half], seconds, encode), *self.encode(clips[half:], seconds, encode)]

    def _try(self, clips: Sequence[int], seconds: float, encode: Callable[[Sequence[int]], Result]) -> Result | None:
        """Encode clips beside those of other lanes; return None if they do not fit."""
        with self._hold(seconds):
            try:
                return encode(clips)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self.limit = min(self.limit, sum(self._held))
            _free()
        return None

    def _encode_alone(self, clips: Sequence[int], seconds: float, encode: Callable[[Sequence[int]], Result]) -> Result:
        """Encode a clip while no other lane encodes. Raises EncoderError if it does not fit."""
        with self._hold(math.inf):
            _free()  # of what the other lanes have kept for later
            try:
                return encode(clips)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                subject = f"{self.name}: a clip of {seconds:.3g} s does"
                # The error's traceback would keep the tensors of the failed call.
                raise _misfit(subject, self.device, "Cut it", error) from error.with_traceback(None)

    @contextmanager
    def _hold(self, seconds: float) -> Iterator[None]:
        """Wait until audio fits beside that of the other lanes, and count it as held until the context ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or sum(self._held) + seconds < self.limit)
            self._held.append(seconds)
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(seconds)
                self._changed.notify_all()


def _free() -> None:
    """Give memory back to the device that a failed call has left, and that torch keeps for later."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _misfit(subject: str, device: Any, advice: str, error: BaseException) -> EncoderError:
    on_gpu = device.type == "cuda"
    memory = f"the memory of {device}" if on_gpu else "memory"
    return EncoderError(
        f"{subject} not fit into {memory} ({first_line(error).rstrip('.')}). {advice}, "
        f"{GPU_ADVICE if on_gpu else CPU_ADVICE}."
    )
