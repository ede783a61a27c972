"""`python -m embedcache` exits with a message that names the command to use instead."""

import sys

sys.exit("`embedcache` is a library. Use `ser`, or `python cli.py` in a checkout; `ser --help` lists all commands.")
