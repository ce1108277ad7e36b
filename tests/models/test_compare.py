"""torch.nn's layers beside torchops', from the shell: what is said of their times, what is refused before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.shell import invoke, refused
from torchops.models import beside_torch
from torchops.models.beside_torch import Comparison
from torchops.models.checkpoints import NETS


def test_compares_layers(tmp_path: Path) -> None:
    result = invoke("compare", "lenet", "--steps", 3, "--batch-size", 8, "--out", tmp_path / "compare.png")
    assert result.exit_code == 0, result.output
    differ = re.search(r"losses differ by (\S+) at most", result.output)
    assert differ
    assert float(differ[1]) < 1e-5
    with Image.open(tmp_path / "compare.png") as image:
        assert image.size == (960, 348)


def test_what_one_network_drops_the_other_drops() -> None:
    made = beside_torch.compare("classifier", steps=1, batch_size=8, device="cpu")
    assert made.difference < 1e-5


def test_every_network_can_be_compared() -> None:
    assert beside_torch.SETTINGS.keys() == NETS.keys()


def test_the_ratio_is_that_of_the_medians(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step, torchops takes 1.143x of the time here: the median of the ratios is not the ratio of the medians."""
    seconds = {"torch.nn": [0.070, 0.0890004, 0.090], "torchops": [0.080, 0.0844, 0.200]}
    made = Comparison({layers: [2.0, 1.5, 1.0] for layers in seconds}, seconds)
    assert made.ratio == pytest.approx(84.4 / 89.0, rel=1e-15)
    monkeypatch.setattr(beside_torch, "compare", lambda *args, **kwargs: made)
    told = invoke("compare", "lenet", "--steps", 3, "--out", tmp_path / "compare.png").output
    assert re.search(r"torch\.nn .* 89\.000 \n torchops .* 84\.400 \n", told), told
    assert "medians of 3 steps each, taken in turns" in " ".join(told.split())
    assert told.endswith(
        "losses differ by 0.0e+00 at most; torchops takes 0.948x of torch.nn's time, 84.400 against 89.000 ms a step\n"
    )


def test_the_picture_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []

    def drawn(losses: Any, seconds: Any, title: str, path: Path) -> None:
        titles.append(title)

    monkeypatch.setattr(beside_torch.pictures, "compared", drawn)
    result = invoke("compare", "lenet", "--steps", 2, "--batch-size", 8, "--out", tmp_path / "compare.png")
    last = result.output.splitlines()[-1]
    assert [f"lenet: {last.partition('; ')[2]}"] == titles
    assert re.fullmatch(r"lenet: torchops takes [\d.]+x of torch.nn's time, [\d.]+ against [\d.]+ ms a step", titles[0])


def test_refuses_a_picture_before_it_takes_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*args: object) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(beside_torch, "data_for", reached)
    (tmp_path / "folder.png").mkdir()
    for name, match in {
        "folder.png": "is a directory, not a file",
        "no/compare.png": "the folder .*no does not exist",
        "compare": r"compare: must end in .*\.png",
        "compare.xyz": r"must end in .*\.png",
    }.items():
        refused(invoke("compare", "lenet", "--out", tmp_path / name), match)
    refused(invoke("compare", "lenet", "--device", "tpu9"), "--device tpu9: torch knows no such device")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
