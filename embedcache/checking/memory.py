"""The memory of this process, and what is free. On a CPU, only Linux tells the peak of a part of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

STATUS, MEMINFO, CLEAR = "/proc/self/status", "/proc/meminfo", "/proc/self/clear_refs"
RESET_PEAK = "5"  # what resets the peak in CLEAR, see `man proc_pid_clear_refs`


def forget_peak() -> bool:
    """Let `memory_mb` measure its peak from now on. Returns whether the system can do that."""
    if not Path(CLEAR).exists():
        return False
    Path(CLEAR).write_text(RESET_PEAK)
    return True


def memory_mb(peak: bool = False) -> float:
    """Return the MB of this process that are in memory now, or were at the peak. Linux only."""
    return _read(STATUS, "VmHWM" if peak else "VmRSS")


def restart_peak(device: Any) -> float | None:
    """Let `peak_of` measure from now on, and return the MB in use on a torch device; None if they cannot be measured.

    On a CPU these are the MB of this process, on a GPU those of torch's tensors.
    """
    if device.type == "cpu":
        return memory_mb() if forget_peak() else None
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return float(torch.cuda.memory_allocated(device) / 1e6)


def peak_of(device: Any) -> float:
    """Return the MB at the peak since `restart_peak`, which must have measured."""
    import torch

    return memory_mb(peak=True) if device.type == "cpu" else float(torch.cuda.max_memory_allocated(device) / 1e6)


def free_mb(device: Any) -> float | None:
    """Return the MB that are free on a torch device; None if the system does not say.

    What torch has reserved on a GPU without using it counts as free.
    """
    import torch

    if device.type == "cpu":
        return _read(MEMINFO, "MemAvailable") if Path(MEMINFO).exists() else None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float((torch.cuda.mem_get_info(device)[0] + unused) / 1e6)


def _read(path: str, name: str) -> float:
    """Return the MB that a line such as `VmRSS:   1024 kB` states."""
    lines = dict(line.split(":", 1) for line in Path(path).read_text().splitlines())
    return float(lines[name].split()[0]) * 1024 / 1e6
