"""Inference: from audio to labels with a fitted model. Windows, streams, output formats.

May import: `saved`, `heads`, `data`, `embedcache`.
"""
