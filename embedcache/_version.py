"""The version of `ser`; what is stored names it."""

__version__ = "0.1.0"
