"""`ser download`: fetch a dataset over HTTP, check its checksums and unpack it.

May import: `files` and the modules directly in `embedcache`.
"""
