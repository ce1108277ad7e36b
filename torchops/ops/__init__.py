"""The registered operators, one file an op family: implementations, fake, gradient, registration.

What the families share:

registration.py   `register`, which every family ends with: an operator, and the function to call it by
packing.py        flat arguments of a schema, and the geometry that functions take
derivatives.py    gradients and tangents, as the dispatcher wants them
autocast.py       low precision
writes.py         writes that torch does not count, and who is told of them
shortcut.py       which eager calls may leave out the dispatcher, and which torchops itself
checks.py         what kernels trust
memory.py         format and pages of outputs
cpu/              what they do on a CPU beyond a call of ATen's
flops.py          what torch's counter of operations is told
"""

from . import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, conv2d, flops, max_pool2d, max_unpool2d, sobel

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "conv2d",
    "flops",
    "max_pool2d",
    "max_unpool2d",
    "sobel",
]
