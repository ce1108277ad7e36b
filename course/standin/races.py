"""Races between the programs of a launch.

They run in any order and at the same time; here they have run one after the other. What depends on the order is

    an element on which the last stores of two programs differ,
    an element that one program loads and another stores to, or updates atomically,
    an element that one program stores to and another updates atomically.

A store of what stands there already is seen by nobody who loads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torchops.course.report import Fault

from .memory import Buffer, Entry

_LOAD, _STORE, _UPDATE = range(3)
_KINDS = {"load": _LOAD, "store": _STORE, "update": _UPDATE}


def race(kernel: str, log: Sequence[Entry]) -> Fault | None:
    """The first race of the accesses of a launch."""
    stored = dict.fromkeys(one.buffer for one in log if one.kind != "load")
    touches = [_Touches(buffer, log) for buffer in stored]
    for find in (_Touches.stores_differ, _Touches.loaded_and_written, _Touches.stored_and_updated):
        for one in touches:
            fault = find(one, kernel)
            if fault is not None:
                return fault
    return None


class _Touches:
    """What was done to the elements of a buffer, in the order in which it was: a row an element of an access."""

    def __init__(self, buffer: Buffer, log: Sequence[Entry]) -> None:
        self.buffer = buffer
        self.entries = [one for one in log if one.buffer is buffer]
        counts = [one.elements.size for one in self.entries]
        programs = {program: n for n, program in enumerate(dict.fromkeys(one.program for one in self.entries))}
        self.entry = np.repeat(np.arange(len(counts)), counts)
        self.element = np.concatenate([one.elements for one in self.entries])
        self.program = np.repeat([programs[one.program] for one in self.entries], counts)
        self.kind = np.repeat([_KINDS[one.kind] for one in self.entries], counts)
        self.silent = np.concatenate([_or_zeros(one.silent, one) for one in self.entries])
        self.bits = np.concatenate([_or_zeros(one.bits, one) for one in self.entries])

    def stores_differ(self, kernel: str) -> Fault | None:
        stores = self.kind == _STORE
        rows = np.flatnonzero(stores)
        if not rows.size:
            return None
        # by element, then by program, then by time: the last row of every pair counts
        rows = rows[np.lexsort((rows, self.program[rows], self.element[rows]))]
        element, program = self.element[rows], self.program[rows]
        last = np.append((element[1:] != element[:-1]) | (program[1:] != program[:-1]), True)
        element, bits = element[last], self.bits[rows][last]
        clash = element[1:][(element[1:] == element[:-1]) & (bits[1:] != bits[:-1])]
        return self._fault(kernel, clash, stores, stores)

    def loaded_and_written(self, kernel: str) -> Fault | None:
        loads, writes = self.kind == _LOAD, (self.kind != _LOAD) & ~self.silent
        return self._fault(kernel, self._shared(loads, writes), loads, writes)

    def stored_and_updated(self, kernel: str) -> Fault | None:
        stores, updates = self.kind == _STORE, self.kind == _UPDATE
        return self._fault(kernel, self._shared(stores, updates), stores, updates)

    def _shared(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Elements that some program touches as `one` says, and another one as `other` says."""
        both = np.intersect1d(self.element[one], self.element[other])
        rows = np.isin(self.element, both) & (one | other)
        element, program = self.element[rows], self.program[rows]
        order = np.lexsort((program, element))
        element, program = element[order], program[order]
        return element[1:][(element[1:] == element[:-1]) & (program[1:] != program[:-1])]

    def _fault(self, kernel: str, clash: np.ndarray, one: np.ndarray, other: np.ndarray) -> Fault | None:
        if not clash.size:
            return None
        element = int(clash.min())
        here = self.element == element
        a, b = next(
            (a, others[0])
            for a in np.flatnonzero(here & one)
            if (others := np.flatnonzero(here & other & (self.program != self.program[a]))).size
        )
        two = (self.entries[self.entry[a]], self.entries[self.entry[b]])
        first, second = sorted(two, key=lambda access: access.kind == "load")
        return Fault(
            "race", first.line, kernel, self.buffer.name, element=element, programs=(first.program, second.program),
            both_store=first.kind == second.kind == "store",
            detail=f"programs {first.program} and {second.program} both touch element {element} of `{self.buffer.name}`",
        )  # fmt: skip


def _or_zeros(known: np.ndarray | None, entry: Entry) -> np.ndarray:
    return np.zeros(entry.elements.size, bool) if known is None else known
