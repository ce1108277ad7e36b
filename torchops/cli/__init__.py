"""The `torchops` command. Needs the extra `cli`; what trains networks, the extra `models` too.

console.py      where commands print and how they fail
ops.py          the operators: edges of an image file, a check of this machine, a look into the kernels
networks.py     the networks: train, predict, compare
demo.py         the demo
"""

from . import demo, networks, ops
from .console import app

__all__ = ["app", "demo", "networks", "ops"]
