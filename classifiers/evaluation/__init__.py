"""Evaluation: protocols, cross-validation, predictions, metrics, intervals, tests, leaderboard and run folders.

May import: `metrics`, `heads`, `data`, `embedcache`.
"""
