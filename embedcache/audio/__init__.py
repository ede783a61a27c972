"""Audio: from a file's bytes to a waveform, and augmented copies of waveforms.

May import: `embedcache.files` and the modules directly in `embedcache`.
"""
