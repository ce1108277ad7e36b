"""The registered operators, one file an op family: implementations, fake, gradient, registration."""

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
