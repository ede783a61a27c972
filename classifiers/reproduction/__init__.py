"""Reproduction: published systems as recipes, and what runs them.

May import: `workflows` and everything below it.
"""
