"""Runs in other people's trackers: what is pushed, and one module for each of MLflow, Weights & Biases and TensorBoard.

May import: `reporting`, `evaluation`, `protocols`, `data`, `embedcache`.
"""
