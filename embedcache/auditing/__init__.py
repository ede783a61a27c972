"""`ser audit`: check the recordings of a dataset before anything is extracted.

May import: `audio`, `datasets`, `files` and the modules directly in `embedcache`.
"""
