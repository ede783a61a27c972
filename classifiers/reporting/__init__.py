"""Reporting: the HTML report, figures, and tables for the terminal.

May import: `evaluation`, `heads`, `data`, `embedcache`.
"""
