"""`ser check`: what an encoder computes on this machine, how fast, and in how much memory.

`run` makes all checks of `steps`, and `result` holds what they found. `machine`, `memory`, `timing` and `limits`
measure; the benchmarks use them, too. Imports from `encoders` and from what lies below it.
"""
