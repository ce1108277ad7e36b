"""Files: what is read is looked at first, what is written appears whole or not at all, which is done here.

names.py          names as they are shown, and which are hidden
targets.py        what is wrong with a file to write, before anything takes time
tensors.py        files of tensors
images.py         images as tensors, and back
opening.py        which images are opened, how large, which way up
scale.py          images of more than 8 bits
transparency.py   what is transparent shows a background
quiet.py          warnings of who reads a file are dropped, in this thread alone
plots.py          figures
fonts.py          the texts in them

Names, targets and tensors need torch alone, images the extra `cli`, figures matplotlib.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None  # type: ignore[assignment]

_KINDS = {
    stat.S_IFDIR: "is a directory, not a file",
    stat.S_IFIFO: "is a pipe, not a file",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}
_TEMPORARY = re.compile(r"\.torchops-[0-9a-f]{16}(\.|$)")
# what a disk says that takes no more; whoever raises it seldom knows of which file
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)


def not_a_file(path: Path) -> str | None:
    """Why nothing can be read from a path without opening it, as "no such file"; None if it is a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a link to nothing" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', error)}"
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "is no file")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` if the block succeeds, and is gone if not.

    A link stays, what it leads to is replaced. The permissions of a file that was there are kept.

    Raises:
        OSError: if `path` is a directory, a device, or anything else but a file, before the block; or if a file cannot be
            made there, or the disk is full. It names `path`.
    """
    if (reason := not_replaceable(path)) is not None:
        raise OSError(f"{path}: {reason}")
    target = Path(os.path.realpath(path))
    with _naming(path):
        kept = _permissions(target)
    _remove_stale(target.parent)
    with _naming(path):
        beside, handle = _beside(target.parent, path.suffix, kept)
    try:
        with _naming(path, beside):
            yield beside
            if fcntl is None:
                handle = _closed(handle)
            if kept is not None and kept != stat.S_IMODE(beside.stat().st_mode):
                beside.chmod(kept)
            os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    finally:
        _closed(handle)


def not_replaceable(path: Path) -> str | None:
    """Why no file can take the place of a path, as "is a directory, not a file to write"; None if one can."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        return "is a link that leads round in a circle"
    return f"{reason} to write" if os.path.lexists(target) and (reason := not_a_file(target)) else None


def _permissions(target: Path) -> int | None:
    """Those of a file that is to be replaced; None if there is none."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        return None


def _beside(folder: Path, suffix: str, mode: int | None) -> tuple[Path, int]:
    """A new file in a folder, and a handle of it that holds its lock while it is being written."""
    ending = suffix if len(os.fsencode(suffix)) <= 32 else ""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        beside = folder / f".torchops-{secrets.token_hex(8)}{ending}"
        handle = os.open(beside, flags, 0o666 if mode is None else mode | 0o600)
        # between the two calls, whoever removes what is stale may have come first
        if _locked(handle) is not False and beside.exists():
            return beside, handle
        os.close(handle)


def _locked(handle: int) -> bool | None:
    """Take a file's lock: whether nobody else held it, None where files have no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _closed(handle: int) -> int:
    """Close a handle that may have been closed."""
    if handle >= 0:
        os.close(handle)
    return -1


@functools.cache
def _remove_stale(folder: Path) -> None:
    """Remove what processes that were killed have left in a folder, once in a process: files that nobody holds locked."""
    with contextlib.suppress(OSError):
        for name in filter(_TEMPORARY.match, os.listdir(folder)):
            with contextlib.suppress(OSError):
                handle = os.open(folder / name, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                try:
                    if _locked(handle):
                        os.unlink(folder / name)
                finally:
                    os.close(handle)


@contextlib.contextmanager
def _naming(path: Path, beside: Path | None = None) -> Iterator[None]:
    """Errors of the file system that tell of the file beside, or of none where the disk is full, tell of `path`."""
    try:
        yield
    except OSError as error:
        of_it = error.errno in _FULL if error.filename is None else beside is None or str(error.filename) == str(beside)
        if error.errno is None or not of_it:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
