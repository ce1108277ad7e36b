"""The texts as notebooks: `python -m notebooks.write` writes NN_name.ipynb beside every NN_name.md. Needs jupytext."""

from __future__ import annotations

from pathlib import Path

from torchops.course.notebook import as_notebook
from torchops.files import replacing

FOLDER = Path(__file__).parent


def sources() -> list[Path]:
    """The texts, in the order of the afternoon."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.md"))


def made(source: Path) -> str:
    """What the notebook of a text is, without outputs; the same every time."""
    return as_notebook(source.read_text(encoding="utf-8"), source.stem)


def main() -> None:
    """Write all notebooks, and say which."""
    for source in sources():
        path = source.with_suffix(".ipynb")
        with replacing(path) as temporary:
            temporary.write_text(made(source), encoding="utf-8")
        print(path.relative_to(FOLDER.parent))


if __name__ == "__main__":
    main()
