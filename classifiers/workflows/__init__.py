"""Workflows: what a command does, in one call. Comparison, fitting, cross-corpus tests, fine-tuning, quickstart.

May import: `reporting`, `inference`, `saved`, `evaluation`, `heads`, `data`, `embedcache`.
"""
