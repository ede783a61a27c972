"""Files: written so that they are complete or absent, read within bounds, told apart by their stamps.

May import: `embedcache.errors`.
"""
