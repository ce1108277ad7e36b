"""Triton kernels, their block sizes and their launchers; README.md says what lies where.

Nothing here imports the rest of torchops.
"""
