"""Facts about the machine that measurements depend on. No fact is a name or a path of it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib

PACKAGES = ("torch", "transformers", "numpy")
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Return the facts: processor, cores, memory in GB, GPU, systems, and the versions of `packages`.

    The GPU and the number of threads are those of torch, and are known only where torch was imported already.
    """
    cpu, flags = _cpu()
    return {
        "cpu": cpu,
        "cores": joblib.cpu_count(),
        "threads": _threads(),
        "memory_gb": _memory_gb(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cuda": _cuda(),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _cpu() -> tuple[str, frozenset[str]]:
    """Return the processor's model and instruction sets; on systems other than Linux the sets are unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    model = facts.get("model name") or platform.processor() or platform.machine()
    return model, frozenset(facts.get("flags", "").split())


def _memory_gb() -> float | None:
    """Return the physical memory; None where the system does not say (Windows)."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    except (AttributeError, ValueError):
        return None


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def _cuda() -> str | None:
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
