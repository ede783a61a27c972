"""`python -m classifiers`: says which command to use instead."""

import sys

sys.exit("`classifiers` is a library. Run `ser --help`, or `python cli.py --help` in a checkout.")
