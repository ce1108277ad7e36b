"""A backend of torch.compile: `torch.compile(model, backend="torchops")`.

options.py    what it can be asked for
swap.py       torch's functions become torchops's, one for one, in Dynamo's graph; that is all for training
backend.py    what becomes of a graph; for inference, torchops.graphs rewrites it
inputs.py     which inputs are the model's own
once.py       what is computed of those alone, as long as they do not change
rest.py       who compiles what torchops does not
reports.py    what became of a graph
"""

from torchops.ops.writes import forget as forget

from .backend import Backend as Backend
from .reports import GraphReport as GraphReport

__all__ = ["Backend", "GraphReport", "backend", "forget"]

backend = Backend()
"""What `backend="torchops"` means; it keeps the reports of all models that are compiled so."""
