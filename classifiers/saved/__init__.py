"""Model folders: fitted heads saved without pickle, loaded only if all of their types are trusted, with a model card.

May import: `evaluation`, `heads`, `data`, `embedcache`.
"""
