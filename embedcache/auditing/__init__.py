"""`ser audit`: what is wrong with a dataset's recordings, found before anything is extracted.

May import: `audio`, `datasets`, `files` and the modules directly in `embedcache`.
"""
