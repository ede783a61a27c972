"""Files: written so that each file is complete or absent, read within size limits, and compared by their stamps.

May import: `embedcache.errors`.
"""
