"""Triton kernels, their block sizes and their launchers.

Nothing here imports the rest of torchops: a kernel file can be read, and run, on its own.

    <op>.py             the kernels and launchers of one op family
    launch.py           the one door through which every launcher launches
    hardware.py         what a GPU can do, and how long it should take
    borders.py          border modes as index arithmetic
    activations.py      activations of an epilogue
    tiles.py            two-dimensional tiles of any strides
    windows.py          tiles over the windows of pools, and the choice of their sizes
    adaptive.py         windows of adaptive pools; tiles for large ones, and the choice of their sizes
    strips.py           Sobel's tiles, which slide down an image, and the choice of their sizes
    conv2d_*.py         convolution: gather (a matrix product, or none for narrow groups), shift (taps of a row share a load),
                        weight_grad, epilogue; config, the choice of block sizes
    compilers.py        block sizes that an older Triton spills
    tables.py           tables of block sizes, read with care
    configs/<GPU>.json  block sizes of known layers
    canary.py           no op's: whether the assembler of this machine drops constants
"""
