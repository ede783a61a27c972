"""Model folders: fitted heads written without pickle, read back only if every type is trusted, with a model card.

May import: `evaluation`, `heads`, `data`, `embedcache`.
"""
