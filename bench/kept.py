"""A file of results that runs add to: what was found before stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torchops.files import replacing


def read(file: Path, empty: dict[str, Any]) -> dict[str, Any]:
    """What is in the file, or `empty` where there is none."""
    return json.loads(file.read_text()) if file.exists() else empty


def write(file: Path, results: dict[str, Any]) -> None:
    """Write the file whole or not at all; its folder is made. What JSON does not know becomes text."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as beside:
        beside.write_text(json.dumps(results, indent=1, default=str) + "\n")
