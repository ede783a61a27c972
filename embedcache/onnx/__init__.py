"""Encoders as ONNX graphs, and the runtime that checks them. Needs the extra `onnx`.

May import: `encoders` and the modules directly in `embedcache`.
"""
