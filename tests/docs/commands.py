"""How each command that a page names is run by its test: as it stands, made small, or parsed.

A command is run by the real application, in a folder where everything lies that the page speaks of. What would train for
minutes is given options that make it small, after its own: of an option that is given twice, the last one counts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """It is run; the exit code is 0."""

    more: str = ""
    """Options that make it small."""
    makes: str = ""
    """Files that are there afterwards, as the page says."""
    says: str = ""
    """What it prints, a regular expression."""


@dataclass(frozen=True)
class Parse:
    """It is parsed by the application, to the last option, and not run."""

    why: str
    needs: str = ""
    """Files that have to be there before, as the page says."""


FEW = "--epochs 1 --examples 2 --batch-size 10"
"""Of images of classes."""
SMALL = "--epochs 1 --size 32 --width 4 --depth 2 --crops 1"
"""Of a U-Net."""
ENCODED = "--epochs 1 --size 32 --width 4 --crops 1"
PHOTOS = "--epochs 1 --size 32 --batch-size 4"
NOISE = "--epochs 1 --width 8 --depth 1 --steps 10"
"""Of a diffusion model."""
TUNED = "--dry-run --top 1 --no-backward"
ALEXNET = "--model torchvision:alexnet --input 1x3x64x64"
"""A network of few kernels."""

COMMANDS: dict[str, Run | Parse] = {
    # operators
    "torchops check": Run(says=r"\bconv2d +float32 +aten, cpu .* ok"),
    "torchops sobel photo.jpg edges.png": Run(makes="edges.png", says="strongest hundredth white"),
    "torchops explain conv2d --dtype bfloat16 --channels-last --shape 32,64,56,56 --set padding_mode=reflect": Run(
        says="input_grad"
    ),
    "torchops explain sobel --arch H200 --shape 1,3,2160,3840 --json": Run(says="modelled_us"),
    "torchops inspect conv2d --arch sm_90": Run(says="conv2d_gemm_kernel"),
    "torchops inspect max_unpool2d --indices position --dtype bfloat16 --channels-last": Run(says="constants dropped"),
    "torchops inspect sobel --dump code": Run(says=r"code/\S+\.ptx\n"),
    # training
    "torchops train lenet --out runs/lenet": Run(
        FEW, "runs/lenet/README.md runs/lenet/best.pt runs/lenet/confusion.csv"
    ),
    "torchops train unet --out runs/pages": Run(
        SMALL, "runs/pages/best.pt runs/pages/summary.json runs/pages/curves.png"
    ),
    "torchops train diffusion --judge runs/lenet --out runs/diffusion": Run(
        NOISE, "runs/diffusion/best.pt", "recognised"
    ),
    "torchops train lenet --dataset fashion-mnist --epochs 5": Run(FEW, says="Pullover"),
    "torchops train lenet --dataset cifar10 --channels 3 --size 32": Run(FEW),
    "torchops train lenet --dataset mnist --examples 10 --epochs 10 --batch-size 20 --weights runs/lenet": Run(FEW),
    "torchops train resnet --data photos --list": Run(says="8 images of 2 classes to train on, 2 held out"),
    "torchops train resnet --data photos --out runs/mine": Run(PHOTOS, "runs/mine/best.pt"),
    "torchops train resnet --data photos --weights DEFAULT --freeze 1 --layer-decay 0.7 --out runs/photos": Run(
        PHOTOS, "runs/photos/best.pt"
    ),
    "torchops train resnet --resume runs/photos --epochs 20": Run("--epochs 2", says=r"epoch +2 "),
    "torchops train classifier --model timm:convnext_atto --data photos --weights DEFAULT --freeze 1 --layer-decay 0.7": Run(
        f"--model timm:test_resnet {PHOTOS}"
    ),
    "torchops train unet --data cells --unpool max --padding-mode reflect --dilations 1,2,4": Run(
        SMALL, says="membrane"
    ),
    "torchops train unet --data cells --encoder timm:resnet18 --channels 3 --weights DEFAULT --freeze 1 --out runs/cells": Run(
        f"--encoder timm:test_resnet {ENCODED}", "runs/cells/best.pt"
    ),
    "torchops train lenet --resume runs/lenet": Run(says="in runs/lenet"),
    "torchops train lenet --log tensorboard --out runs/watched": Run(FEW, "runs/watched/tensorboard"),
    "torchrun --nproc-per-node 2 -m torchops train unet --out runs/two": Run(SMALL, "runs/two/best.pt"),
    "torchrun --nnodes 2 --node-rank 0 --master-addr 10.0.0.1 --master-port 29500 -m torchops train unet --data cells "
    "--out runs/two": Run(SMALL, "runs/two/best.pt"),
    "torchrun --nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29500 -m torchops train unet --data cells "
    "--out runs/two": Parse("the other machine's part of the same run", needs="cells"),
    "torchops compare unet --out compare.png": Run("--steps 2 --size 32 --batch-size 2", "compare.png"),
    # what was trained
    "torchops predict runs/lenet digit.png": Run(says=r"digit\.png"),
    "torchops predict runs/lenet ink.png --invert": Run(says=r"ink\.png"),
    "torchops predict runs/photos holiday --csv holiday.csv": Run(makes="holiday.csv"),
    "torchops predict runs/pages page.png --out masks": Run(makes="masks/page-mask.png masks/page-overlay.png"),
    "torchops predict runs/pages scans --tile 512 --json scans.json": Run(makes="scans.json predictions"),
    "torchops look runs/lenet digit.png": Run(makes="look"),
    "torchops look runs/lenet digit.png --layers": Run(says=r"features\.3 +Conv2d"),
    "torchops draw runs/diffusion --seeds 3,7,11 --out drawn": Run(
        "--steps 5", "drawn/seed-3.png drawn/seed-7.png drawn/seed-11.png"
    ),
    "torchops draw runs/diffusion --count 4 --eta 1 --steps 500 --out slow.png": Run("--steps 5", "slow.png"),
    "torchops export runs/lenet lenet.onnx": Run(makes="lenet.onnx", says="onnxruntime differs from torch by"),
    "torchops export runs/lenet lenet.pt2": Run(makes="lenet.pt2", says="without torchops"),
    "torchops export runs/lenet package.pt2 --aoti": Parse(
        "compiles for a minute; tests/test_export_aten.py does", needs="runs/lenet"
    ),
    # kernels
    "torchops precompile --arch H100 --model torchvision:resnet50 --input 8x3x224x224 --fuse --cache kernels --pack "
    "kernels.xz": Run(f"{ALEXNET} --processes 1", "kernels kernels.xz", "0 failed"),
    "torchops precompile --unpack kernels.xz --cache /var/cache/kernels": Run("--cache unpacked", "unpacked"),
    "torchops precompile --model torchvision:resnet50 --train": Parse("compiles into the user's folder, for minutes"),
    "torchops precompile --calls calls.jsonl --cache kernels": Run("--processes 1", "kernels", "0 failed"),
    "torchops tune": Run(f"{TUNED} --case lenet-conv1", says="nothing was run"),
    "torchops tune --model torchvision:resnet50 --input 8x3x224x224 --dtype float16": Run(
        f"{TUNED} {ALEXNET}", says="nothing was run"
    ),
    "torchops tune --dry-run --arch H200 --case body --top 4": Run(TUNED, says="H200"),
    # the course
    "torchops course start": Run(makes="torchops-course/01_pixels/page.md torchops-course/01_pixels/pixels.py"),
    "torchops course watch": Parse("goes on until it is stopped; tests/course/test_cli_watch.py runs it"),
}

PROGRAMS: dict[str, str] = {
    "tensorboard": "serves until it is stopped",
    "jupyter": "serves until it is stopped",
    "source": "is the shell's, of an environment that is made there",
    "apt-get": "fetches pictures", "dpkg": "unpacks them", "npm": "fetches pictures", "tar": "unpacks them",
    "node": "lists them",
}  # fmt: skip
"""Programs of others, which pages may call, and why they are not run."""
PACKAGES = {"jupyterlab": "to open notebooks with"}
"""Packages of others, which pages may have one install beside torchops and what it asks for."""
