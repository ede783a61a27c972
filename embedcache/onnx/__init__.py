"""Encoders as ONNX files, and the sessions that run and check such files. Needs the extra `onnx`.

May import: `encoders` and the modules directly in `embedcache`.
"""
