"""Print the libraries of pyproject.toml, one a line: those of `ser`, and those of the extras that are named."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *(library for name in sys.argv[1:] for library in extras[name]), sep="\n")
