"""Audio: decode files to waveforms, and make augmented copies of waveforms.

May import: `embedcache.files` and the modules directly in `embedcache`.
"""
