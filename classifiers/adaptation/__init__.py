"""Adaptation to a speaker by some of its clips, without labels: statistics, drawn clips, adapted vectors, strength.

Imports only `data`, `protocols` and `heads`.
"""
