"""Processes that start once, and a thread that nobody waits for."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from classifiers.parallel import in_background, iter_in_processes

held: list[np.ndarray] = []


def grown(number: int) -> int:
    """Let the memory of the process grow, as a library does that is loaded late."""
    held.append(np.ones(int(4e8) // 8)) if number == 1 else time.sleep(1.1)
    return os.getpid()


def test_processes_start_once_although_their_memory_grows(recwarn: pytest.WarningsRecorder) -> None:
    """joblib would end each of them, say so on the terminal, and start another."""
    found = list(iter_in_processes(grown, [(number % 4,) for number in range(8)], 2))
    assert len(set(found)) <= 2
    assert not [str(one.message) for one in recwarn if "worker" in str(one.message).lower()]


def test_a_thread_in_the_background_gives_a_result_or_an_error() -> None:
    assert in_background(lambda: 3).result() == 3
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0).result()


def test_a_program_ends_although_a_thread_works_in_the_background() -> None:
    program = "import time; from classifiers.parallel import in_background; in_background(lambda: time.sleep(600))"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
