"""`python -m bench.gpu_check`: all that a GPU can be asked in eight minutes, in order, with nothing lost when it is cut off.

stages.py   what is done: machine, smoke, tests, timings, tune, bench
smoke.py    every op and every kernel on small problems against float64
folder.py   what is left behind
"""
