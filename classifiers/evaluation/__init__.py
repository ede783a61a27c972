"""Evaluation: protocols, cross-validation, predictions, metrics, intervals, tests, leaderboard and run folders.

May import: `heads`, `data`, `embedcache`.
"""
