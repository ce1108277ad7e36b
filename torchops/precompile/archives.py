"""Caches of Triton's as one file: packed where kernels were compiled, unpacked where they are launched.

An archive holds what a launch needs, the machine code and its description, and says for which Triton and which architectures.
A group of files is found by absolute paths, so these are written anew where it is unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import lzma
import re
import sysconfig
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from torchops.files import replacing
from torchops.inspect.machine_code import target_of

_MANIFEST = "manifest.json"
_GROUP = "__grp__"
_CODE = (".cubin", ".hsaco")
_ENTRY = re.compile(r"[A-Z2-7]+/\w[\w.\-]*")
"""The name of a member: a key of Triton's cache, and a file."""


class ArchiveError(ValueError):
    """A file that is no archive of kernels, or one for another Triton or GPU."""


@dataclass(frozen=True)
class Manifest:
    """What an archive holds, and what it is for."""

    triton: str
    """Version."""
    compiler: str
    """Digest of all that a kernel's key holds of Triton and ptxas."""
    extension: str
    """Suffix of Python's extension modules, as which launchers are built."""
    archs: dict[str, int]
    """Kernels by architecture."""
    launchers: int


def _compiler(archs: Iterable[str]) -> str:
    """Digest of all that the keys of kernels hold of Triton and its assemblers, but for the environment.

    Triton's own files are part of it: two builds of one version can differ.
    """
    from triton.compiler.compiler import make_backend
    from triton.runtime.cache import triton_key

    backends = (make_backend(target_of(arch, 32 if arch.startswith("sm_") else 64)) for arch in sorted(archs))
    key = "-".join([triton_key(), *(backend.hash() for backend in backends)])
    return hashlib.sha256(key.encode()).hexdigest()


def arch_of(target: dict[str, object]) -> str:
    """The architecture in a kernel's description: what `target_of` was told."""
    return f"sm_{target['arch']}" if target["backend"] == "cuda" else str(target["arch"])


def _extension() -> str:
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


@dataclass(frozen=True)
class _Entry:
    """A folder of the cache that a launch needs, with its files."""

    folder: Path
    arch: str
    """"" for a launcher."""
    files: tuple[Path, ...]


def _entries(cache: Path, extension: str) -> Iterator[_Entry]:
    for folder in sorted(path for path in cache.iterdir() if path.is_dir()):
        groups = list(folder.glob(f"{_GROUP}*.json"))
        for group in groups:
            description = folder / group.name.removeprefix(_GROUP)
            code = [path for suffix in _CODE if (path := description.with_suffix(suffix)).exists()]
            if code and description.exists():
                yield _Entry(folder, arch_of(json.loads(description.read_text())["target"]), (description, *code))
        if not groups and (libraries := tuple(sorted(folder.glob(f"*{extension}")))):
            yield _Entry(folder, "", libraries)


def pack(cache: Path, file: Path, archs: set[str] | None = None) -> Manifest:
    """Pack what a launch needs of a cache into a file.

    Args:
        cache: a folder that was TRITON_CACHE_DIR.
        file: is there whole or not at all; an .xz.
        archs: of the kernels; all where it is None.

    Raises:
        ArchiveError: if the cache holds no such kernel.
        OSError: if it cannot be read, or the file not be written.
    """
    entries = [e for e in _entries(cache, _extension()) if archs is None or not e.arch or e.arch in archs]
    counts = Counter(e.arch for e in entries if e.arch)
    if not counts:
        raise ArchiveError(f"{cache} holds no kernel{' for ' + ', '.join(sorted(archs)) if archs else ''}")
    launchers = sum(not e.arch for e in entries)
    archs_held = dict(sorted(counts.items()))
    manifest = Manifest(metadata.version("triton"), _compiler(counts), _extension(), archs_held, launchers)
    with replacing(file) as beside, tarfile.open(beside, "w:xz", preset=6) as archive:
        _add(archive, _MANIFEST, json.dumps(asdict(manifest)).encode())
        for entry in entries:
            for path in entry.files:
                _add(archive, f"{entry.folder.name}/{path.name}", path.read_bytes())
    return manifest


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    # a member says neither owner nor time, so that the same cache gives the same file
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def read_manifest(file: Path) -> Manifest:
    """What an archive is for.

    Raises:
        ArchiveError: if it is none.
        OSError: if it cannot be read.
    """
    with _opened(file) as archive:
        return _manifest(archive, file)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, "r:xz") as archive:
            yield archive
    except (tarfile.TarError, lzma.LZMAError, EOFError, KeyError) as error:
        raise ArchiveError(f"{file} is no archive of kernels: {' '.join(str(error).split())}") from None


def _manifest(archive: tarfile.TarFile, file: Path) -> Manifest:
    first = archive.next()
    if first is None or first.name != _MANIFEST or (stream := archive.extractfile(first)) is None:
        raise ArchiveError(f"{file} is no archive of kernels: it does not begin with {_MANIFEST}")
    try:
        manifest = Manifest(**json.loads(stream.read()))
        if all(re.fullmatch(r"sm_\d+|gfx\w+", arch) for arch in manifest.archs):
            return manifest
    except (ValueError, TypeError):
        pass
    raise ArchiveError(f"{file} is no archive of kernels: its {_MANIFEST} cannot be read")


def unpack(file: Path, cache: Path, archs: Iterable[str] = ()) -> Manifest:
    """Unpack an archive into a cache, to be used as TRITON_CACHE_DIR; what is there already is kept.

    Args:
        file: see :func:`pack`.
        cache: a folder; made if it is not there.
        archs: of the GPUs that kernels are wanted for: it has to have some for each.

    Returns:
        What the archive holds. Launchers of another Python are left out.

    Raises:
        ArchiveError: if the file is no archive, or one for another Triton or GPU: nothing is unpacked then.
        OSError: if the file cannot be read, or the cache not be written.
    """
    with _opened(file) as archive:
        manifest = _manifest(archive, file)
        here = metadata.version("triton")
        if manifest.triton != here:
            raise ArchiveError(f"{file} was packed for triton {manifest.triton}, and this is {here}")
        if missing := sorted(set(archs) - set(manifest.archs)):
            raise ArchiveError(
                f"{file} holds kernels for {', '.join(manifest.archs)}, and none for {', '.join(missing)}"
            )
        if manifest.compiler != _compiler(manifest.archs):
            raise ArchiveError(f"{file} was packed for triton {here} with other files or another ptxas than here")
        cache = cache.absolute()
        files: dict[str, dict[str, bytes]] = {}
        for member in archive.getmembers()[1:]:
            stream = archive.extractfile(member) if member.isreg() and _ENTRY.fullmatch(member.name) else None
            if stream is None:
                raise ArchiveError(f"{file} is no archive of kernels: it holds {member.name!r:.80}")
            key, _, name = member.name.partition("/")
            files.setdefault(key, {})[name] = stream.read()
    for key, found in files.items():
        _put(cache / key, found, manifest.extension)
    return manifest


def _put(folder: Path, files: dict[str, bytes], extension: str) -> None:
    """Write an entry of the cache; a kernel's group, by which Triton finds it, is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if not name.endswith(".so") or extension == _extension():
            with replacing(folder / name) as beside:
                beside.write_bytes(data)
    for description in (name for name in files if name.endswith(".json")):
        stem = description.removesuffix(".json")
        group = {name: str(folder / name) for name in files if name.rpartition(".")[0] == stem}
        if not (folder / f"{_GROUP}{description}").exists():
            with replacing(folder / f"{_GROUP}{description}") as beside:
                beside.write_text(json.dumps({"child_paths": group}))
