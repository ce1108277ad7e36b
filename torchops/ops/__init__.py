"""The registered operators, one file an op family: implementations, fake, gradient, registration."""

from . import sobel

__all__ = ["sobel"]
