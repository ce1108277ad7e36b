"""Programs of `torch.export` that leave torchops: in ATen's operators alone, for C++ and for machines without it, and as ONNX.

fusing.py `fuse`: a program with as few kernels as can be
aten.py   `to_aten`: the same program without torchops's operators
onnx.py   `write_onnx`: a file of ONNX, and how far onnxruntime's answer is from torch's; needs the extra `onnx`
"""

from .aten import to_aten
from .fusing import fuse
from .onnx import Written, write_onnx

__all__ = ["Written", "fuse", "to_aten", "write_onnx"]
