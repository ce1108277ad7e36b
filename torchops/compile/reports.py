"""What became of a graph of Dynamo's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from torchops.graphs.reports import Report


@dataclass
class GraphReport(Report):
    """What became of one graph; `print` it."""

    number: int = 0
    """Of the graph, among those that the backend has compiled."""
    training: bool = False
    """Whether gradients can be asked for: then calls were swapped, and nothing was fused."""
    swapped: Counter[str] = field(default_factory=Counter)
    """How often each function of torch's was replaced by torchops's."""
    recomputed: Callable[[], int] = field(default=int, repr=False)
    """How often so far tensors were computed of Parameters alone: once, and again after each change of them."""

    def __str__(self) -> str:
        if not self.training:
            return f"graph {self.number}, for inference\n\n{super().__str__()}"
        swapped = ", ".join(f"{count} {name}" for name, count in sorted(self.swapped.items())) or "nothing"
        lines = [
            f"graph {self.number}, for training: inputs or Parameters require gradients, and grad mode is on; call the model "
            "under torch.no_grad() for a fused one",
            f"swapped: {swapped}",
            *(f"kept: {name or '(model)'}: {why}" for name, why in self.kept.items()),
        ]
        return "\n".join(lines)
