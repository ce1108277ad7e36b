"""Graphs of operators, and what can be done to them: torchops's operators in ATen's (aten.py)."""
