"""`ser serve`: models as an HTTP service (extra `[serve]`). The page of `ser demo` is a client of the same service.

Read `service` first: the loaded models, and the limits of one request. `pack_queue` joins requests that wait into packs
of the encoder. `bodies` reads what a request sends. `api`, `timeline` and `operations` are the routes; `access` says
who may use them, and `server` listens on a port.
"""

import importlib.util

from embedcache import SerError
from embedcache.text import install_hint

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def need_serve(command: str = "serve") -> None:
    """Raise SerError, with what installs them, if packages are missing that `ser serve`, or another command, needs."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise SerError(f"`ser {command}` needs {' and '.join(missing)}. Install them with `{install_hint(command)}`.")
