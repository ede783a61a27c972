"""Speed, measured: each benchmark is a module to run, and says in its docstring what stands against what."""
