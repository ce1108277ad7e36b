"""torchops: the convolution toolkit. Readable Triton kernels, registered as PyTorch operators with a CPU path.

>>> import torch, torchops
>>> torchops.sobel(torch.rand(1, 3, 64, 64)).shape
torch.Size([1, 3, 64, 64])
"""

from . import functional, nn
from ._version import __version__
from .backend import get_backend, use_backend
from .functional import conv2d, conv_transpose2d, sobel, spatial_gradient
from .inspect import explain

__all__ = [
    "__version__",
    "conv2d",
    "conv_transpose2d",
    "explain",
    "functional",
    "get_backend",
    "nn",
    "sobel",
    "spatial_gradient",
    "use_backend",
]
