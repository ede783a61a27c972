"""A pretended GPU: tensors that say they are on `cuda:N` and hold data of the CPU.

It keeps account of what a GPU would do with the same calls: which operation ran on which stream, how many bytes are
live, and what happens if memory ends. An operation on tensors of two devices raises, as on a GPU. CPU kernels do the
arithmetic, so neither speed, nor backward passes, nor what happens at the same time can be seen.

    with pretended_gpu(monkeypatch) as gpu:
        with gpu.mode():                         # tensors that are made here, in this thread, may be on cuda
            encoder = load_encoder(folder, "cuda")
            encoder.encode(waves, views)
        assert gpu.faults == Counter()
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ATEN = torch.ops.aten
COPIES = (ATEN.copy_.default, ATEN._to_copy.default)  # may take tensors of two devices
INDEXED = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default)
BLOCK_BYTES = 512  # of which an allocation is a multiple


def refusal() -> str:
    """Why there can be no pretended GPU here; empty if there can be one."""
    if torch.version.cuda or torch.version.hip:
        return "this torch is built for GPUs, and has a guard of its own"
    return "" if shutil.which("g++") else "g++ is missing, which builds the pretended device"


@functools.cache
def _register_guard() -> None:
    """Build and load pretended_cuda.cpp; it stays loaded until the process ends, and changes nothing by itself."""
    root, library = Path(torch.__file__).parent, Path(tempfile.mkdtemp()) / "guard.so"
    includes = [f"-I{root}/include", f"-I{root}/include/torch/csrc/api/include"]
    options = ["-std=c++20", "-shared", "-fPIC", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
    linked = [f"-L{root}/lib", "-lc10", f"-Wl,-rpath,{root}/lib"]
    source = Path(__file__).with_suffix(".cpp")
    subprocess.run(["g++", *options, *includes, source, *linked, "-o", library], check=True)
    ctypes.CDLL(str(library))


class Stream:
    """A stream, of which only the number matters."""

    numbers = itertools.count()

    def __init__(self, device: Any = "cuda:0", priority: int = 0) -> None:
        self.device, self.number = _numbered(torch.device(device)), next(self.numbers)


class Block:
    """An allocation of the device; the memory is free again when nothing refers to it."""

    def __init__(self, gpu: PretendedGpu, storage: Any) -> None:
        size = -(-storage.nbytes() // BLOCK_BYTES) * BLOCK_BYTES
        gpu.allocate(size)
        self.gpu, self.size, self.storage = gpu, size, storage
        self.stream, self.epoch, self.users = gpu.stream.number, gpu.epoch, set()

    def __del__(self) -> None:
        if hasattr(self, "size"):
            self.gpu.free(self)


class Pretended(torch.Tensor):
    """A tensor that says it is on a GPU, around the `inner` one that holds its data."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device, gpu: PretendedGpu) -> Pretended:
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "layout": inner.layout}
        return cls._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype, device=device, **layout)

    def __init__(self, inner: torch.Tensor, device: torch.device, gpu: PretendedGpu) -> None:
        self.inner, self.block, self.gpu = inner, gpu.block_of(inner), gpu

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.device}, {tuple(self.shape)}, {self.dtype})"

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu = next(leaf.gpu for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Pretended))
        return gpu.run(func, args, kwargs or {})


class Mode(TorchDispatchMode):
    """While it is entered, a thread may make tensors on the pretended GPU."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __enter__(self) -> Mode:
        torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor can be seen; this setting is of the thread
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.gpu.run(func, args, kwargs or {})


@contextmanager
def pretended_gpu(patch: pytest.MonkeyPatch, count: int = 1) -> Iterator[PretendedGpu]:
    """A machine with `count` GPUs, in this process; skips the test where there can be none."""
    if reason := refusal():
        pytest.skip(reason)
    _register_guard()
    gpu = PretendedGpu()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with patch.context() as patched:
            gpu.install(patched, count)
            yield gpu
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


class PretendedGpu:
    """What the GPUs of a machine have done."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()  # what a GPU would have computed wrongly
        self.operations: Counter[str] = Counter()
        self.live = self.peak = 0  # bytes
        self.limit: int | None = None  # bytes
        self.fails_at: Callable[[int], bool] = lambda number: False  # whether the operation of this number fails
        self.error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB (pretended)")
        self.failed = 0  # operations that found no memory
        self.epoch = 0  # how often all streams were waited for
        self.default_stream = Stream()
        self._lock, self._local = threading.RLock(), threading.local()
        self._blocks: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()

    def mode(self) -> Mode:
        """A context in which the calling thread may make tensors on the GPU."""
        return Mode(self)

    @property
    def stream(self) -> Stream:
        """The current stream of this thread."""
        return getattr(self._local, "stream", self.default_stream)

    def wait(self, device: Any = None) -> None:
        """Wait for all streams."""
        self.epoch += 1

    def allocate(self, size: int) -> None:
        with self._lock:
            if self.limit is not None and self.live + size > self.limit:
                self._fail()
            self.live += size
            self.peak = max(self.peak, self.live)

    def free(self, block: Block) -> None:
        with self._lock:
            self.live -= block.size
            if block.users - {block.stream}:
                self.faults["freed while another stream may use it"] += 1

    def block_of(self, inner: torch.Tensor) -> Block:
        """The allocation of a tensor, which its views share."""
        storage = inner.untyped_storage()
        with self._lock:
            block = self._blocks.get(storage._cdata)
            if block is None:
                block = self._blocks[storage._cdata] = Block(self, storage)
            return block

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation on the CPU, and wrap its result if it is on a GPU."""
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Pretended)]
        _refuse_two_devices(func, tensors, leaves)
        device = _result_device(tensors, kwargs)
        if device.type == "cuda" or tensors:
            self._count(str(func), tensors)
        args, kwargs = tree_map(lambda leaf: leaf.inner if isinstance(leaf, Pretended) else leaf, (args, kwargs))
        result = _compute(func, args, _for_cpu(func, kwargs))
        changed = {id(tensor.inner): tensor for tensor in tensors}  # in place: the result is an argument

        def wrap(leaf: Any) -> Any:
            if id(leaf) in changed:
                return changed[id(leaf)]
            on_gpu = device.type == "cuda" and isinstance(leaf, torch.Tensor) and not isinstance(leaf, Pretended)
            return Pretended(leaf, device, self) if on_gpu else leaf

        return tree_map(wrap, result)

    def _count(self, name: str, tensors: list[Pretended]) -> None:
        """Count an operation, and what is wrong with the stream on which it runs."""
        with self._lock:
            self.operations[name] += 1
            if self.fails_at(self.operations.total()):
                self._fail()
        for block in (tensor.block for tensor in tensors):
            if block.stream != self.stream.number and block.epoch == self.epoch:
                self.faults[f"{name}: made on stream {block.stream}, used on {self.stream.number} unawaited"] += 1
            block.users.add(self.stream.number)

    def _fail(self) -> None:
        self.failed += 1
        raise type(self.error)(*self.error.args)

    @contextmanager
    def _use_stream(self, stream: Stream) -> Iterator[None]:
        before, self._local.stream = self.stream, stream
        try:
            yield
        finally:
            self._local.stream = before

    def install(self, patch: pytest.MonkeyPatch, count: int) -> None:
        """Put what this machine has in the place of torch's functions."""
        replacements = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: count,
            "current_device": lambda: 0,
            "Stream": Stream,
            "stream": self._use_stream,
            "current_stream": lambda device=None: self.stream,
            "synchronize": self.wait,
            "empty_cache": self.wait,
            "get_rng_state": lambda device=None: None,
            "set_rng_state": lambda state, device=None: None,
            "manual_seed_all": lambda seed: None,
            "get_device_capability": lambda device=None: (9, 0),
            "mem_get_info": lambda device=None: (80 << 30, 80 << 30),
        }
        for name, replacement in replacements.items():
            patch.setattr(torch.cuda, name, replacement)
        patch.setattr(torch, "inference_mode", torch.no_grad)  # tensors made in Python have no inference mode


def _numbered(device: torch.device) -> torch.device:
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def _refuse_two_devices(func: Any, tensors: list[Pretended], leaves: list[Any]) -> None:
    """Raise RuntimeError if an operation mixes devices; indices, scalars and copies may."""
    if func in COPIES or not tensors:
        return
    devices = {tensor.device for tensor in tensors}
    others = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Pretended)]
    beside = [other for other in others if other.dim() and func not in INDEXED]
    if len(devices) > 1 or beside:
        raise RuntimeError(f"{func}: expected all tensors on one device, got {devices}, {len(beside)} on the CPU")


def _result_device(tensors: list[Pretended], kwargs: dict[str, Any]) -> torch.device:
    wanted = kwargs.get("device")
    if wanted is not None:
        return _numbered(torch.device(wanted))
    return tensors[0].device if tensors else torch.device("cpu")


def _for_cpu(func: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The options of an operation, for the CPU."""
    changed = {"pin_memory": False} if kwargs.get("pin_memory") else {}
    if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda":
        changed["device"] = torch.device("cpu")
    dropped = ("non_blocking",) if func is ATEN._to_copy.default else ()
    return {name: value for name, value in {**kwargs, **changed}.items() if name not in dropped}


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    return _varlen(*args, **kwargs) if str(func).startswith("torch_attn._varlen_attn") else func(*args, **kwargs)


def _varlen(q: Any, k: Any, v: Any, starts: Any, ends: Any, longest: int, other: int, *options: Any) -> Any:
    """FlashAttention over clips of any lengths: its contract, and its definition."""
    causal, scale, *_, num_splits = (*options, *[None] * (7 - len(options)))[:7]
    bounds = starts.tolist()
    lengths = [end - start for start, end in itertools.pairwise(bounds)]
    keeps = {
        "half precision": q.dtype in (torch.float16, torch.bfloat16),
        "dense heads": q.dim() == 3 and q.stride(-1) == k.stride(-1) == v.stride(-1) == 1,
        "int32 bounds": starts.dtype == ends.dtype == torch.int32 and starts.is_contiguous(),
        "dimensions": q.shape[-1] % 8 == 0 and q.shape[-1] <= 256,
        "the longest clip": type(longest) is int and longest == other == max(lengths) and bounds[-1] == len(q),
        "no split keys": not causal and num_splits in (None, 1),
    }
    if broken := [name for name, kept in keeps.items() if not kept]:
        raise RuntimeError(f"attention over clips of any lengths wants {', '.join(broken)}")
    mixed = torch.empty(q.shape, dtype=q.dtype)
    for begin, end in itertools.pairwise(bounds):
        scores = torch.einsum("ihd,jhd->hij", q[begin:end].float(), k[begin:end].float()) * scale
        weights = scores.softmax(-1).to(q.dtype).float()
        mixed[begin:end] = torch.einsum("hij,jhd->ihd", weights, v[begin:end].float()).to(q.dtype)
    return mixed, torch.empty(q.shape[1], len(q)), torch.zeros(2, dtype=torch.uint64)
