"""Figures for papers: at the width of a column or a page, as PNG, SVG and PDF, without titles.

May import: what `reporting` may import, and its modules.
"""
