"""Inference: from audio to labels with a fitted model. Clips, windows, live sound, output formats.

May import: `saved`, `heads`, `data`, `embedcache`.
"""
