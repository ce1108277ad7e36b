"""Both sides of bench.throughput do the same work; the figures of it are not looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench import kept
from bench.plain_training import Plain
from bench.throughput import LOADS, main
from torchops.models.data import val_loader
from torchops.models.options import Config
from torchops.models.setup import data_for, net_for, task_for


@pytest.mark.parametrize(("name", "apart"), [("lenet, digits", 1e-5), ("resnet18, photos", 0.3), ("unet, pages", 1e-5)])
def test_both_are_judged_by_the_same_images(name: str, apart: float) -> None:
    with LOADS[name](True) as config:
        data = data_for(config)
        plain = Plain(Config(**vars(config)), data)
        net, _ = net_for(config, data)
        task: Any = task_for(config, data, net)
        ours, theirs = next(iter(val_loader(data.val, 8))), next(iter(plain.val))
        x, y = (t[:8] for t in theirs)
    # Pillow rounds a resized photo to bytes
    assert float((ours[0] - x).abs().max()) < apart
    assert torch.equal(ours[1], y)
    with torch.no_grad():
        assert torch.allclose(net(x), plain.net(x), atol=1e-3)
        assert torch.allclose(task.loss(net, [x, y]), plain.loss(plain.net(x), y), atol=1e-4)


def test_a_tiny_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "throughput.json"
    main(
        [
            "lenet, digits",
            "unet, pages",
            "--tiny",
            "--rounds",
            "2",
            "--threads",
            "1",
            "--stage",
            "times",
            "--file",
            str(file),
        ]
    )
    results = kept.read(file)
    assert [row["images"] for row in results.found["times"].values()] == [100, 64]
    assert f"torch {torch.__version__.split('+')[0]}" in results.provenance["versions"].split(", ")
    assert [row["network, data"] for row in results.tables["epochs"].records()] == ["lenet, digits", "unet, pages"]
    main(["--table", "--file", str(file)])
    assert "| unet, pages | 1 |" in capsys.readouterr().out
