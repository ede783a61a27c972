"""Benchmarks of speed, memory and structure. Each module is run by itself; its docstring says what it compares."""
