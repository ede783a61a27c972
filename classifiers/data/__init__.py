"""Data: what heads are trained on. Labels, views of the vectors, and the task (X, y, speakers).

May import: `embedcache`.
"""
