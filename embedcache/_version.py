"""The version of `ser`. It is written into the files that `ser` stores."""

__version__ = "0.1.0"
