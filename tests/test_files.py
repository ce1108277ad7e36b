"""Files appear whole or not at all, where they are meant to be, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from torchops import files
from torchops.files import images, plots, replacing
from torchops.files.tensors import save_tensors


def write(path: Path, text: str = "new") -> None:
    with replacing(path) as beside:
        beside.write_text(text)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


class TestLinks:
    def test_are_written_through(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        target, link = tmp_path / "there" / "target.txt", tmp_path / "link.txt"
        target.write_text("old")
        link.symlink_to(target)
        write(link)
        assert link.is_symlink()
        assert target.read_text() == "new"
        assert (listing(tmp_path), listing(tmp_path / "there")) == (["link.txt", "there"], ["target.txt"])

    def test_to_nothing_create_what_they_lead_to(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("target")
        write(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_text() == "new"

    def test_round_in_a_circle(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("link")
        with pytest.raises(OSError, match=r"link: is a link that leads round in a circle$"):
            write(tmp_path / "link")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (Path.mkdir, "a directory"),
        (lambda path: path.symlink_to("/dev/null"), "a device"),
    ],
)
def test_what_is_no_file_is_refused_before_anything_is_written(
    make: Callable[[Path], None], kind: str, tmp_path: Path
) -> None:
    make(tmp_path / "out.txt")
    with pytest.raises(OSError, match=rf"out\.txt: is {kind}, not a file to write$"), replacing(tmp_path / "out.txt"):
        pytest.fail("the block was entered")
    assert listing(tmp_path) == ["out.txt"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write(tmp_path / "no" / "out.txt")
    assert str(caught.value) == f"[Errno 2] No such file or directory: '{tmp_path / 'no' / 'out.txt'}'"


@pytest.mark.parametrize("name", ["n" * 255, "n" * 251 + ".png", "n." + "s" * 253, "é" * 125 + ".txt"])
def test_names_of_any_length(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert listing(tmp_path) == [name]


def test_too_long_a_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"File name too long: '.*nnn'$"), replacing(tmp_path / ("n" * 256)):
        pytest.fail("the block was entered")


def test_the_suffix_is_the_files(tmp_path: Path) -> None:
    with replacing(tmp_path / "figure.png") as beside:
        assert beside.suffix == ".png"
        beside.touch()


@pytest.mark.usefixtures("umask")
class TestPermissions:
    def test_of_a_new_file_are_the_umasks(self, tmp_path: Path) -> None:
        write(tmp_path / "out.txt")
        assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o640

    @pytest.mark.parametrize("mode", [0o600, 0o444, 0o666, 0o755])
    def test_of_a_file_are_kept(self, mode: int, tmp_path: Path) -> None:
        (tmp_path / "out.txt").touch()
        (tmp_path / "out.txt").chmod(mode)
        with replacing(tmp_path / "out.txt") as beside:
            # nobody reads a private file while it is being written, either
            assert stat.S_IMODE(beside.stat().st_mode) & ~(mode | 0o600) == 0
            beside.write_text("new")
        assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == mode

    def test_the_process_keeps_its_umask(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("it is of all threads"))
        write(tmp_path / "out.txt")


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
# without the package's other imports, which take seconds
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
with files.replacing(Path(sys.argv[2])) as beside:
    beside.write_text("half")
    print(beside.name, flush=True)
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def writer(path: Path, fate: str) -> tuple[subprocess.Popen[str], str]:
    """Another process, which is in the midst of writing, or was killed there; and the name of its file."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, files.__file__, str(path), fate],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_what_a_kill_left_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    killed, left = writer(tmp_path / "out.png", "killed")
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    live, written = writer(tmp_path / "out.png", "live")
    try:
        with replacing(tmp_path / "another.png") as here:
            # the live process has cleared away what the killed one left
            assert sorted([written, here.name]) == listing(tmp_path)
            assert left not in listing(tmp_path)
            files._remove_stale.cache_clear()
            write(tmp_path / "third.txt")
            assert sorted([written, here.name, "third.txt"]) == listing(tmp_path)
            here.touch()
    finally:
        live.communicate("")
    assert live.returncode == 0
    assert listing(tmp_path) == ["another.png", "out.png", "third.txt"]


def test_only_our_own_names_are_removed(tmp_path: Path) -> None:
    others = [".torchops-notes", ".torchops-0123456789abcdefg.txt", ".curves-abcd.png", "torchops-0123456789abcdef"]
    for name in [*others, ".torchops-0123456789abcdef.png"]:
        (tmp_path / name).touch()
    write(tmp_path / "out.txt")
    assert listing(tmp_path) == sorted([*others, "out.txt"])


def test_threads_leave_each_others_files_alone(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def many(number: int) -> None:
        try:
            for turn in range(30):
                files._remove_stale.cache_clear()
                write(tmp_path / f"{number}.txt", str(turn))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=many, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert listing(tmp_path) == [f"{number}.txt" for number in range(4)]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(error: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("precious")
    with pytest.raises(error), replacing(tmp_path / "out.txt") as beside:  # noqa: PT012
        beside.write_text("half")
        raise error
    assert (tmp_path / "out.txt").read_text() == "precious"
    assert listing(tmp_path) == ["out.txt"]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Files take 4,000 bytes and no more; Python has the signal that comes with it ignored."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestFullDisk:
    def test_text(self, tmp_path: Path) -> None:
        with full_disk(), pytest.raises(OSError) as caught:
            write(tmp_path / "out.txt", "x" * 100_000)
        assert str(caught.value) == f"[Errno 27] File too large: '{tmp_path / 'out.txt'}'"
        assert not listing(tmp_path)

    def test_tensors(self, tmp_path: Path) -> None:
        file = tmp_path / "weights.pt"
        save_tensors({"w": torch.arange(3)}, file)
        with full_disk(), pytest.raises(OSError) as caught:
            save_tensors({"w": torch.zeros(100_000)}, file)
        assert str(caught.value) == f"[Errno 27] File too large: '{file}'"
        assert torch.load(file)["w"].tolist() == [0, 1, 2]
        assert listing(tmp_path) == ["weights.pt"]

    def test_what_is_no_tensor_is_said_as_torch_says_it(self, tmp_path: Path) -> None:
        with pytest.raises((AttributeError, TypeError)):
            save_tensors(threading.Lock(), tmp_path / "weights.pt")
        assert not listing(tmp_path)

    @pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif", "webp", "jpg", "jp2", "avif", "ppm"])
    def test_images(self, suffix: str, tmp_path: Path) -> None:
        noise = torch.rand(3, 120, 120, generator=torch.Generator().manual_seed(0))
        file = tmp_path / f"out.{suffix}"
        with full_disk(), pytest.raises(images.ImageError) as caught:
            images.write_image(file, noise, 1.0)
        assert str(caught.value) == f"{file}: cannot be written: File too large"
        assert not listing(tmp_path)

    def test_figures(self, tmp_path: Path) -> None:
        drawn = plots.figure(6, 6)
        drawn.subplots().plot([0, 1], [1, 3])
        with full_disk(), pytest.raises(OSError) as caught:
            plots.save(drawn, tmp_path / "out.png")
        assert str(caught.value) == f"[Errno 27] File too large: '{tmp_path / 'out.png'}'"
        assert not listing(tmp_path)
