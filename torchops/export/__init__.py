"""Programs of `torch.export` that leave torchops: in ATen's operators alone, for C++ and for machines without it, and as ONNX.

aten.py   `to_aten`: the same program without torchops's operators
onnx.py   `write_onnx`: a file of ONNX, and how far onnxruntime's answer is from torch's; needs the extra `onnx`
"""

from .aten import to_aten
from .onnx import Written, write_onnx

__all__ = ["Written", "to_aten", "write_onnx"]
