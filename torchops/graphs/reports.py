"""What became of a graph: a report to print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, wide enough for what is in them."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows))
    return "\n".join(line.rstrip() for line in lines)


@dataclass
class Report:
    """What a fusion did; `print` it."""

    fused: dict[str, str] = field(default_factory=dict)
    """For every convolution, by its name in the model: what its kernel does."""
    kept: dict[str, str] = field(default_factory=dict)
    """For every module that was not looked into, layer not taken over, or batch norm that could not be folded: why; "" is the
    model itself."""
    before: Counter[str] = field(default_factory=Counter)
    """Kernels of a forward of the model as torch.nn runs it, by op: one for each call but views, and one for the bias of a
    convolution. A module that was not looked into counts as one, by its class."""
    after: Counter[str] = field(default_factory=Counter)
    """Kernels of a forward of the fused model, likewise; torchops's add the bias themselves."""

    def __str__(self) -> str:
        ops = sorted({*self.before, *self.after}, key=lambda op: (-self.before[op], op))
        kernels = [(op, str(self.before[op]), str(self.after[op])) for op in ops]
        kernels.append(("all", str(self.before.total()), str(self.after.total())))
        parts = [table(("name", "one kernel for"), list(self.fused.items()))]
        if self.kept:
            parts.append(
                table(("name", "kept, because"), [(name or "(model)", why) for name, why in self.kept.items()])
            )
        return "\n\n".join([*parts, table(("kernels of", "before", "after"), kernels)])
