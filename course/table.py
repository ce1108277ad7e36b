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
    text = f"{value:g}"
    if len(text) > 6:
        text = f"{value:.4f}"[:6].rstrip(".") if 1e-3 <= abs(value) < 1e5 else _power(value)
    return f"[{text}]".rjust(8) if wrong else f"{text} ".rjust(8)


def _power(value: float) -> str:
    """With two digits and a short exponent, 1.2e5; what is cut off must not be digits of the exponent."""
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
