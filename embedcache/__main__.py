"""`python -m embedcache` exits with a message that names the command to use instead."""

import sys

sys.exit("`embedcache` is a library. Use the command `ser`, or `python cli.py` in a checkout; `ser --help` lists them.")
