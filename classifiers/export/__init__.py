"""Export: fitted heads, and encoders with them, as ONNX. Needs the extra `onnx`.

May import: `inference`, `saved`, `heads`, `data`, `embedcache`.
"""
