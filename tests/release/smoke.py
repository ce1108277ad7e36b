"""What the installed wheel is asked to do: alone, and with each extra. A smoke test gets a Python and an empty folder."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from .artifacts import ROOT
from .report import environment, run, want

ALONE = """
import torch, torchops
assert "site-packages/torchops/" in torchops.__file__, torchops.__file__
x = torch.rand(1, 3, 16, 16, requires_grad=True)
torchops.nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")(torchops.sobel(x)).sum().backward()
assert x.grad.isfinite().all()
model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)).eval()
with torch.no_grad():
    expected = model(x)
    ours, _ = torchops.convert(model)
    assert torch.allclose(ours(x), expected, atol=1e-5)
    by_name = torch.compile(model, backend="torchops", options={"rest": "eager"})
    assert torch.allclose(by_name(x), expected, atol=1e-5)
    traced = torch.compile(ours, backend="aot_eager", fullgraph=True)
    assert torch.allclose(traced(x), expected, atol=1e-5)
print("op, backward, convert, torch.compile by torchops and aot_eager")
"""

_MODELS = """
import torch, torchops
assert torchops.models.LeNet().eval()(torch.rand(1, 1, 28, 28)).shape == (1, 10)
"""

_TIMM = """
import timm, torch, torchops
model, x = timm.create_model("resnet18", num_classes=4).eval(), torch.rand(1, 3, 32, 32)
with torch.no_grad():
    expected = model(x)
    ours, report = torchops.convert(model)
    assert torch.allclose(ours(x), expected, atol=1e-4)
"""

_ONNX = """
import torch, torchops
from torchops.export import write_onnx
layer = torchops.nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect").eval()
written = write_onnx(layer, (torch.rand(1, 3, 8, 8),), "layer.onnx")
assert written.difference < 1e-5
print(f"{written.nodes} operators of ONNX, as torch to {written.difference:.0e}")
"""

_KERNELS = """
import kernels, torchops, torchops.kernels.sobel
assert "site-packages/kernels/" in kernels.__file__ and hasattr(kernels, "get_kernel"), kernels.__file__
print("beside kernels", kernels.__version__)
"""


def alone(python: Path, folder: Path) -> str:
    """Without an extra there is the library, and the command says what it needs."""
    said = run(python, "-c", ALONE, cwd=folder).strip()
    command = [python.with_name("torchops"), "check"]
    missing = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), cwd=folder)
    want(missing.returncode == 2 and "pip install 'torchops[cli]'" in missing.stderr, str(missing))
    return f"{said}; the command names its extra"


def with_kernels(python: Path, folder: Path) -> str:
    """Beside Hugging Face's package `kernels`, whose name a folder of ours has."""
    run(python, "-m", "pip", "install", "--quiet", "kernels")
    return run(python, "-c", _KERNELS, cwd=folder).strip()


def check(python: Path, folder: Path) -> str:
    """`torchops check`: every op on every backend of this machine."""
    found = json.loads(run(python.with_name("torchops"), "check", "--json", cwd=folder))
    verdicts = [row["verdict"] for row in found["rows"]]
    ok = verdicts.count("ok")
    want(ok and not any(verdict.startswith("FAILED") for verdict in verdicts), str(found["rows"]))
    return f"check: {ok} ok, {len(verdicts) - ok} not run"


def cli(python: Path, folder: Path) -> str:
    picture = "from PIL import Image; Image.radial_gradient('L').save('in.png')"
    run(python, "-c", picture, cwd=folder)
    run(python.with_name("torchops"), "sobel", "in.png", "out.png", cwd=folder)
    want((folder / "out.png").stat().st_size > 1000, "no edges were written")
    return f"sobel of a picture; {check(python, folder)}"


def train(python: Path, folder: Path, *options: str) -> Path:
    run(python.with_name("torchops"), "train", "lenet", "--epochs", "1", "--out", "run", *options, cwd=folder)
    return folder / "run"


def models(python: Path, folder: Path) -> str:
    run(python, "-c", _MODELS, cwd=folder)
    found = json.loads((train(python, folder) / "summary.json").read_text())
    want(found, "no summary")
    return "a LeNet; an epoch of train lenet"


def timm(python: Path, folder: Path) -> str:
    run(python, "-c", _TIMM, cwd=folder)
    return "timm's resnet18 converted"


def tensorboard(python: Path, folder: Path) -> str:
    events = list(train(python, folder, "--log", "tensorboard").rglob("events.out.tfevents.*"))
    want(events, "no event file")
    return "train --log tensorboard"


def onnx(python: Path, folder: Path) -> str:
    return run(python, "-c", _ONNX, cwd=folder).strip().splitlines()[-1]


def course(python: Path, folder: Path) -> str:
    """Start the course, copy the solution of its first lesson into the student's file, and check that."""

    def torchops(*arguments: str) -> str:
        return run(python.with_name("torchops"), "course", *arguments, cwd=folder)

    torchops("start")
    (file,) = (folder / "torchops-course").glob("01_*/*.py")
    file.write_text(torchops("solution", "1", "--yes"), encoding="utf-8")
    found = json.loads(torchops("check", "1", "--json"))
    want(found["verdict"] == "ok", str(found))
    return f"lesson 1 is right by {found['engine']}"


def demo(python: Path, folder: Path) -> str:
    run(python.with_name("torchops"), "demo", cwd=folder)
    pictures = sorted(path.name for path in (folder / "out").glob("*.png"))
    want(len(pictures) >= 3, str(pictures))
    return f"demo: {', '.join(pictures)}"


def _checkout(folder: Path, *names: str) -> None:
    for name in names:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))


def bench(python: Path, folder: Path) -> str:
    """The benchmarks are no part of the wheel: those of a checkout time the torchops that is installed."""
    _checkout(folder, "bench")
    shutil.copy(ROOT / "pyproject.toml", folder)
    said = run(python, "-m", "pytest", "bench", "-o", "python_files=bench_*.py", "--collect-only", "-q", cwd=folder)
    last = said.strip().splitlines()[-1].strip("= ")
    want("error" not in last and "no tests" not in last, said[-2000:])
    return f"benchmarks of a checkout: {last}"


def docs(python: Path, folder: Path) -> str:
    return run(python, "-m", "sphinx", "--version", cwd=folder).strip()


def dev(python: Path, folder: Path) -> str:
    """Tests and linters of a checkout run against the torchops that is installed."""
    _checkout(folder, "tests", "tools")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for tool in ("ruff", "mypy", "pre-commit"):
        run(python.with_name(tool), "--version")
    said = run(
        python, "-m", "pytest", "tests/test_package.py", "--tier", "aten", "-q", "-k", "import or extra", cwd=folder
    )
    return f"test_package.py: {said.strip().splitlines()[-1].strip('= ')}"


SMOKE: dict[str, Callable[[Path, Path], str]] = {
    "cli": cli,
    "models": models,
    "timm": timm,
    "tensorboard": tensorboard,
    "onnx": onnx,
    "course": course,
    "demo": demo,
    "bench": bench,
    "docs": docs,
    "dev": dev,
}
"""By extra, what shows that it brings what it is for."""
