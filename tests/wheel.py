"""Build the wheel and try it where nothing else of the project is: `python -m tests.wheel`.

The fresh environment also gets Hugging Face's `kernels`, whose name our folder has: both must import and work.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

COURSE = [file for file in sorted((ROOT / "course").rglob("*")) if file.is_file() and file.parent.name != "__pycache__"]
"""What a student needs, and what checks it."""

TRIAL = """
import kernels, torch, torchops, torchops.kernels.sobel, torchops.models
assert "site-packages/kernels/" in kernels.__file__ and hasattr(kernels, "get_kernel"), kernels.__file__
assert "site-packages/torchops/" in torchops.__file__, torchops.__file__
x = torch.rand(1, 3, 16, 16, requires_grad=True)
torchops.nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")(torchops.sobel(x)).sum().backward()
assert x.grad.isfinite().all()
layer = torch.nn.Conv2d(3, 4, 3)
with torch.no_grad():
    y = torch.compile(layer, backend="torchops", options={"rest": "eager"})(x)
    assert torch.allclose(y, layer(x), atol=1e-6)
print("torchops", torchops.__version__, "and kernels", kernels.__version__, "live together")
"""


def course_in(folder: Path, torchops: Path) -> None:
    """Start the course, copy the solution of its first lesson into the student's file, and check that."""

    def run(*arguments: str) -> str:
        command = [torchops, "course", *arguments]
        return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout

    run("start")
    (file,) = (folder / "torchops-course").glob("01_*/*.py")
    file.write_text(run("solution", "1", "--yes"), encoding="utf-8")
    found = json.loads(run("check", "1", "--json"))
    assert found["verdict"] == "ok", found
    print("lesson 1 is right by", found["engine"])


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "env" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)], check=True)
        (wheel,) = Path(folder).glob("torchops-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        packages = {name.split("/")[0] for name in names}
        assert packages == {"torchops", wheel.name.split("-py3")[0] + ".dist-info"}, packages
        for name in (
            "torchops/kernels/sobel.py",
            "torchops/kernels/configs/H100.json",
            "torchops/models/__init__.py",
            "torchops/ops/sobel.py",
            "torchops/py.typed",
            *(f"torchops/{file.relative_to(ROOT)}" for file in COURSE),
        ):
            assert names.count(name) == 1, f"{name} in the wheel {names.count(name)} times"
        venv.create(python.parent.parent, with_pip=True)
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, wheel, "kernels"], check=True)
        subprocess.run([python, "-c", TRIAL], cwd=folder, check=True)
        missing = subprocess.run([python.with_name("torchops"), "check"], capture_output=True, text=True, check=False)
        assert missing.returncode == 2, missing
        assert "pip install 'torchops[cli]'" in missing.stderr, missing
        course = f"{wheel}[course]"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, course], check=True)
        course_in(Path(folder), python.with_name("torchops"))
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
