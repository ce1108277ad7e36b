"""Triton kernels, their block sizes and their launchers.

Nothing here imports the rest of torchops: a kernel file can be read, and run, on its own.

    borders.py    border modes as index arithmetic
    hardware.py   what a GPU can do, and how long it should take
    strips.py     tiles that slide down an image, and the choice of their sizes
    launch.py     the one door through which every launcher launches
    <op>.py       the kernels and launchers of one op family
"""
