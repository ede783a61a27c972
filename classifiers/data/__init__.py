"""The data that heads are trained on: labels, views of the embeddings, and the task (X, y, speakers).

May import: `embedcache`.
"""
