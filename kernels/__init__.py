"""Triton kernels, their block sizes and their launchers.

Nothing here imports the rest of torchops.

    <op>.py, conv2d/    the kernels of one op family, and their launchers
    launch.py           the one door through which every launcher launches
    device/             what kernels share: borders, tiles, activations; code that Triton compiles, and nothing else
    planning/           which block sizes a launch takes, and why: problems, configs, costs, hardware, tables; plain Python
    layout/             how tensors are laid out for a kernel, where several ops do it alike
    configs/<GPU>.json  block sizes of known layers
    canary.py           no op's: whether the assembler of this machine drops constants
"""
