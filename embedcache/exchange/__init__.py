"""Vectors from and for other programs: files of vectors read and written, imported into a cache and exported from it.

May import: `embedcache.cache`, `embedcache.encoders` and what these import.
"""
