"""Which block sizes a launch takes, and why, in plain Python that knows no tensors.

protocol.py            what every planner answers: Problem, Config, candidates, programs, cost, pick_config
conv2d.py, strips.py, windows.py, adaptive.py
                       the planners, one a family of kernels
conv2d_*.py            of the first: what is asked (problem), the table of tiles (candidates), what one costs (cost)
hardware.py            what GPUs can do, and how long a launch should take there
compilers.py           which block sizes an older Triton spills
tables.py              how the block sizes of known layers are read: configs/<GPU>.json
"""
