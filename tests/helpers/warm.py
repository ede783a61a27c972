"""A process that has the heavy libraries loaded and runs `ser` in forks of itself.

Most of a short command's time is the import of scikit-learn. A fork starts with it done; all else is as in a process of
its own: arguments, environment, folder, output, exit code. What reads the environment when it is imported (Hugging
Face's libraries, torch) is not loaded here.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

CLI = Path(__file__).parent.parent.parent / "cli.py"


class Warm:
    """The process, from the outside."""

    def __init__(self) -> None:
        # unbuffered: what is read ahead would be missed by `select`
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def run(self, arguments: list[str], cwd: Path, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess:
        """Run one command, as `subprocess.run` with captured text. Raises TimeoutExpired."""
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place, "out"), Path(place, "err")
            asked = {"arguments": arguments, "cwd": str(cwd), "env": env, "out": str(out), "err": str(err)}
            self.process.stdin.write(json.dumps(asked).encode() + b"\n")
            pid = int(self.process.stdout.readline())
            if not select.select([self.process.stdout], [], [], timeout)[0]:
                os.kill(pid, 9)
                self.process.stdout.readline()
                raise subprocess.TimeoutExpired(arguments, timeout)
            code = int(self.process.stdout.readline())
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Answer each line of standard input, a command as JSON, with the fork's number and then its exit code."""
    import joblib  # noqa: F401
    import librosa  # noqa: F401
    import lightgbm  # noqa: F401
    import sklearn.ensemble
    import sklearn.model_selection
    import sklearn.pipeline
    import sklearn.svm  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            run(**json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def run(arguments: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    """Become the command."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, (path, flags) in enumerate(
        ((os.devnull, os.O_RDONLY), (out, os.O_WRONLY | os.O_CREAT), (err, os.O_WRONLY | os.O_CREAT))
    ):
        os.dup2(os.open(path, flags), number)
    sys.argv = [str(CLI), *arguments]
    sys.path[:0] = [str(CLI.parent), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    code = 1
    try:
        import cli

        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
