"""The registered operators, one file an op family: implementations, fake, gradient, registration."""

from . import conv2d, sobel

__all__ = ["conv2d", "sobel"]
