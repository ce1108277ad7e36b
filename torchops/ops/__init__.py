"""The registered operators, one file an op family: implementations, fake, gradient, registration."""

from . import avg_pool2d, conv2d, flops, max_pool2d, max_unpool2d, sobel

__all__ = ["avg_pool2d", "conv2d", "flops", "max_pool2d", "max_unpool2d", "sobel"]
