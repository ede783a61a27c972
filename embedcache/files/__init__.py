"""Files: complete or absent when written, read within size limits, compared by stamps; and the standard streams.

May import: `embedcache.errors`.
"""
