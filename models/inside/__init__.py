"""What happens inside a trained network: its filters, feature maps, Grad-CAM, and what its units see of the image.

layers.py    which layers there are, and their outputs while the network runs
maps.py      filters of the first convolution, feature maps, Grad-CAM
fields.py    receptive fields: what a unit can see, and what it looks at
drawing.py   pictures of all of these; needs the extra `models`

All take any `torch.nn.Module` whose layers give maps (N, C, H, W), and leave its weights, gradients, modes and hooks as they
were.
"""

from .fields import Field, effective_field, placement, receptive_field
from .layers import Layer, layers, named, stages
from .maps import feature_maps, first_filters, grad_cam

__all__ = [
    "Field",
    "Layer",
    "effective_field",
    "feature_maps",
    "first_filters",
    "grad_cam",
    "layers",
    "named",
    "placement",
    "receptive_field",
    "stages",
]
