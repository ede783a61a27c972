"""What a paper cites: sentences about the methods of runs, and the BibTeX of data, encoders and methods.

May import: `reporting`, `evaluation`, `protocols`, `data`, `embedcache`.
"""
