"""Files of tensors that appear whole or not at all, with the system's own word where they do not."""

from __future__ import annotations

from pathlib import Path

import torch

from . import replacing


def save_tensors(content: object, path: Path) -> None:
    """`torch.save`, to be read by `torch.load`; the file appears whole or not at all.

    Raises:
        OSError: if the disk is full or the file cannot be made; `torch.save` itself says "unexpected pos" then.
    """
    with replacing(path) as beside:
        try:
            # its writer for paths forgets why a write failed; what a file of Python raises stands behind its error
            with beside.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:
            raise _system_error(error) or error from None


def _system_error(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
