"""What programs read and write, counted element by element in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest


def count_traffic(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts, from now on, of elements: "loaded" as often as they are, "read" and "written" once a program; and the bytes of
    the latter two."""
    from triton.runtime import interpreter

    builder, elements = (
        interpreter.interpreter_builder,
        {"loaded": 0, "read": 0, "written": 0, "bytes_read": 0, "bytes_written": 0},
    )
    seen: set[tuple[Any, int]] = set()

    def counting(name: str, kind: str) -> None:
        original = getattr(type(builder), name)

        def wrapped(self: Any, ptrs: Any, *args: Any) -> Any:
            mask = args[1] if kind == "written" else args[0]
            size = ptrs.get_element_ty().primitive_bitwidth // 8
            addresses = ptrs.data[mask.data.astype(bool)].tolist()
            elements["loaded"] += len(addresses) if kind == "read" else 0
            for address in set(addresses):
                if (key := (tuple(self.grid_idx), address)) not in seen:
                    seen.add(key)
                    elements[kind] += 1
                    elements[f"bytes_{kind}"] += size
            return original(self, ptrs, *args)

        monkeypatch.setattr(type(builder), name, wrapped)

    counting("create_masked_load", "read")
    counting("create_masked_store", "written")
    return elements
