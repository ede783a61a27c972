"""Evaluation: protocols, cross-validation, predictions, metrics, intervals, tests, leaderboard, run folders.

May import: `heads`, `data`, `embedcache`.
"""
