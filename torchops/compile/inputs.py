"""The inputs of a graph of Dynamo's: which are the model's own."""

from __future__ import annotations

from torch import Tensor, fx

from torchops.compiler_internals import dynamo_example, is_marked_static, mutated_inputs


class Inputs:
    """The inputs of Dynamo's graph, for the graph that AOTAutograd makes of it.

    Args:
        gm: Dynamo's graph.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        placeholders = [n for n in gm.graph.nodes if n.op == "placeholder"]
        # these are the tensors themselves, where the compiler is given fake ones; Dynamo keeps them while it compiles
        self._tensors = [dynamo_example(n) for n in placeholders]
        self._are_static = [is_marked_static(n) for n in placeholders]

    def static(self, placeholders: list[fx.Node]) -> dict[fx.Node, Tensor]:
        """Of the inputs of AOTAutograd's graph the model's Parameters and buffers, to which nothing in the graph writes."""
        if len(placeholders) != len(self._tensors):
            # where inputs share memory, or are of classes of their own, AOTAutograd has others
            return {}
        mutated = mutated_inputs()
        return {
            n: t
            for i, (n, t, is_static) in enumerate(zip(placeholders, self._tensors, self._are_static, strict=True))
            if is_static and isinstance(t, Tensor) and i not in mutated
        }
