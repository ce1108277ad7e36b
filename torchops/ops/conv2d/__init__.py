"""2-D convolution and its gradients, as operators.

operator.py     what they are: implementations, checks, registration
gradients.py    gradients and tangents, in terms of the operators themselves
vmap.py         mapped dimensions
aten.py         the CPU path: torch's own calls, with any border, one rounding and the strides that were promised
packed.py       constant weights in oneDNN's layout, for inference
"""

from .aten import is_channels_last as is_channels_last
from .operator import conv2d as conv2d
from .operator import conv2d_input_grad as conv2d_input_grad
from .operator import conv2d_of_constant as conv2d_of_constant
from .operator import conv2d_weight_grad as conv2d_weight_grad
