"""Results of a run, as `python -m bench` writes them: pytest-benchmark's JSON, without what no report needs."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from .harness import Contest, figures, spread

OURS = ("torchops", "fused")
_FAMILIES = {"conv2d": "convolutions", "pooling": "pooling", "sobel": "Sobel", "models": "networks", "call": "calls"}


class BadRunError(ValueError):
    """A file that holds no results."""


@dataclass(frozen=True, eq=False)
class Row:
    """One provider on one case."""

    case: str
    provider: str
    threads: str
    family: str
    times: tuple[float, ...]
    """Seconds a run, one of every round; those of the providers of a case belong together."""
    info: dict[str, Any]
    graph: tuple[float, ...] = ()
    """Seconds a run as a CUDA graph, likewise; none where there is no such figure."""
    apart: Row | None = None
    """torchops in the race of this provider, where that was a race of the two alone."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.case, self.threads, self.provider

    @property
    def ms(self) -> float:
        return statistics.median(self.times) * 1e3

    @property
    def judged(self) -> tuple[float, ...]:
        """The times to judge it by: of its CUDA graph, into which no launch gets, where it has one."""
        return self.graph or self.times

    @property
    def impossible(self) -> str:
        """Why its figures cannot be right; "" where nothing says so."""
        return str(self.info.get("impossible") or "")


@dataclass(frozen=True)
class Duel:
    """torchops, or what it fused, against another provider of the same case, round by round."""

    ours: Row
    other: Row

    @cached_property
    def times(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of ours and of the other: of their CUDA graphs where both have one."""
        graphs = self.ours.graph and self.other.graph
        return (self.ours.graph, self.other.graph) if graphs else (self.ours.times, self.other.times)

    @property
    def ms(self) -> tuple[float, float]:
        """Medians of these."""
        ours, other = self.times
        return statistics.median(ours) * 1e3, statistics.median(other) * 1e3

    @cached_property
    def ratios(self) -> tuple[float, float, float]:
        """Time of ours over the other's: a fifth of the rounds is below the first, half below the second."""
        return spread([a / b for a, b in zip(*self.times, strict=True)])

    @property
    def ratio(self) -> float:
        return self.ratios[1]

    @property
    def verdict(self) -> str:
        """ "loss" or "win" if four of five rounds say so, else "even"."""
        low, _, high = self.ratios
        return "loss" if low > 1 else "win" if high < 1 else "even"


@dataclass(frozen=True)
class Run:
    machine: dict[str, Any]
    commit: str
    date: str
    rows: tuple[Row, ...]

    @property
    def on_gpu(self) -> bool:
        return self.machine.get("gpu", "none") != "none"

    @cached_property
    def impossible(self) -> list[Row]:
        """Rows whose figures cannot be right."""
        return [r for r in self.rows if r.impossible]

    @cached_property
    def duels(self) -> list[Duel]:
        """All that can be concluded from: none of an impossible figure."""
        found = []
        possible = [r for r in self.rows if not r.impossible]
        for _, group in groupby(sorted(possible, key=lambda r: r.key[:2]), key=lambda r: r.key[:2]):
            rows = list(group)
            ours = [r for r in rows if r.provider in OURS]
            others = [r for r in rows if r.provider not in OURS]
            found += [Duel(a, b) for a in ours for b in others if b.apart is None]
            found += [Duel(b.apart, b) for b in others if b.apart is not None]
        return found


def load(file: Path) -> Run:
    """Read what a run wrote.

    Raises:
        BadRunError: if the file is missing, no JSON, or holds something else.
    """
    try:
        found = json.loads(file.read_text())
        rows = _by_case([row(b) for b in found["benchmarks"]])
        if any(len({len(r.times) for r in group}) > 1 for group in _cases(rows)):
            raise BadRunError(f"{file}: the rounds of a case must be as many for each provider")
        if not rows:
            raise BadRunError(f"{file} holds no case")
        return Run(dict(found["machine_info"]), _commit(found["commit_info"]), str(found["datetime"])[:16], rows)
    except OSError as error:
        raise BadRunError(f"{file} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise BadRunError(f"{file} is no JSON") from None
    except (KeyError, TypeError, AttributeError, IndexError, statistics.StatisticsError):
        raise BadRunError(f"{file} is no result of python -m bench") from None


def _cases(rows: tuple[Row, ...]) -> list[list[Row]]:
    return [list(group) for _, group in groupby(sorted(rows, key=lambda r: r.key), key=lambda r: r.key[:2])]


def _by_case(rows: list[Row]) -> tuple[Row, ...]:
    """Cases as they began: Inductor's rows come later than the others of theirs."""
    began: dict[tuple[str, str], int] = {}
    for found in rows:
        began.setdefault(found.key[:2], len(began))
    return tuple(sorted(rows, key=lambda r: began[r.key[:2]]))


def row(benchmark: dict[str, Any]) -> Row:
    """What pytest-benchmark stored of one provider, or :func:`entry` made."""
    info = benchmark["extra_info"]
    case = str(info["case"])
    kind = "call" if case.startswith("call.") else benchmark["fullname"].split("bench_")[-1].split(".py")[0]
    key = case, str(info["provider"]), str(info["threads"]), _FAMILIES.get(kind, kind)
    times, graph = _positive(benchmark["stats"]["data"]), _seconds(info, "graph_ms")
    apart = None
    if info.get("torchops_ms"):
        alone = {**info, "provider": "torchops"}
        apart = Row(
            case, "torchops", *key[2:], _seconds(info, "torchops_ms"), alone, _seconds(info, "torchops_graph_ms")
        )
    if not times or any(
        len(found) not in (0, len(times)) for found in (graph, *((apart.times, apart.graph) if apart else ()))
    ):
        raise KeyError("graph_ms")
    return Row(*key, times, info, graph, apart)


def _positive(values: list[Any]) -> tuple[float, ...]:
    times = tuple(float(t) for t in values)
    if min(times, default=1) <= 0:
        raise KeyError("a time is not positive")
    return times


def _seconds(info: dict[str, Any], name: str) -> tuple[float, ...]:
    return _positive([float(ms) / 1e3 for ms in info.get(name) or ()])


def entry(contest: Contest, provider: str, file: str) -> dict[str, Any]:
    """What pytest-benchmark would store of a contest that was held without it: a part of what :func:`load` reads.

    Args:
        contest: what was held.
        provider: one that was raced.
        file: the file of benchmarks: conv2d, pooling, sobel or models.
    """
    info = figures(contest, provider)
    times = [_digits(t) for t in contest.times[provider]]
    stored = {name: _digits(value) for name, value in info.items()}
    return {"fullname": f"bench_{file}.py::{info['case']}", "extra_info": stored, "stats": {"data": times}}


def _commit(info: dict[str, Any]) -> str:
    return f"{str(info.get('id', 'unknown'))[:12]}{', with changes' if info.get('dirty') else ''}"


def reduce(found: dict[str, Any]) -> dict[str, Any]:
    """What a report needs of pytest-benchmark's JSON: times to four digits, no paths."""
    return {
        "machine_info": found["machine_info"],
        "commit_info": {name: found["commit_info"].get(name) for name in ("id", "dirty")},
        "datetime": found["datetime"],
        "benchmarks": [
            {
                "fullname": Path(b["fullname"]).name,
                "extra_info": {k: _digits(v) for k, v in b["extra_info"].items()},
                "stats": {"data": [_digits(t) for t in b["stats"]["data"]]},
            }
            for b in found["benchmarks"]
        ],
    }


def _digits(value: Any) -> Any:
    if isinstance(value, list):
        return [_digits(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
