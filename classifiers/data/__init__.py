"""The data that heads are trained on: labels, views of the embeddings, the task (X, y, speakers), and the
search for near copies.

May import: `embedcache`.
"""
