"""Got beside expected, around the first wrong element."""

from __future__ import annotations

from .report import Patch


def table(patch: Patch) -> str:
    """Wrong elements stand in brackets."""
    cols = "".join(f"{patch.col + n} ".rjust(8) for n in range(len(patch.want[0])))
    lines = [f"{'':4}{'got':<{len(cols)}}   expected", f"{'':4}{cols}   {cols}"]
    for n, (got, want, bad) in enumerate(zip(patch.got, patch.want, patch.bad, strict=True)):
        left = "".join(_cell(value, wrong) for value, wrong in zip(got, bad, strict=True))
        lines.append(f"{patch.row + n:>3} {left}   {''.join(_cell(value, False) for value in want)}")
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: float, wrong: bool) -> str:
    text = (f"{value:g}" if abs(value) < 1e4 else f"{value:.1e}")[:6]
    return f"[{text}]".rjust(8) if wrong else f"{text} ".rjust(8)
