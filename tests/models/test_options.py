"""Options of `torchops train`: said once, in a field, and the same in the shell, in `Config` and in the networks."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from torchops.cli import options as shell
from torchops.models.checkpoints import NETS, POOLS, build
from torchops.models.data import DATASETS
from torchops.models.declared import option
from torchops.models.options import Config, NetworkOptions
from torchops.models.runs import Run
from torchops.models.unet import UNPOOLS


@dataclass
class Longer(Config):
    """With one option more, which is one field."""

    momentum: float | None = option(None, "As `lr`, of a thing.", nets=["lenet"], least=0, lenet={"default": 0.9})


def test_a_field_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "Config", Longer)
    asked = {}
    app = typer.Typer()
    for net in ("lenet", "unet"):

        @app.command(net)
        @shell.with_options(net)
        def command(net: str = net, **given: object) -> None:
            asked[net] = given

    for net, expected in (("lenet", 0.5), ("unet", None)):
        result = CliRunner().invoke(app, [net, *(["--momentum", "0.5"] if expected else [])])
        assert result.exit_code == 0, result.output
        assert asked[net].get("momentum") == expected
    monkeypatch.setenv("COLUMNS", "200")
    assert "As --lr, of a thing. [default: 0.9]" in CliRunner().invoke(app, ["lenet", "--help"]).output
    assert Longer.asked("lenet").momentum == 0.9
    assert Longer.asked("unet").momentum is None
    with pytest.raises(ValueError, match="`momentum` must be at least 0, got -1"):
        Longer.asked("lenet", momentum=-1)


@pytest.mark.parametrize("net", NETS)
def test_defaults_of_the_shell_are_those_of_the_config(net: str) -> None:
    """What is shown as the default is what runs without the option."""

    def plain(value: object) -> object:
        return getattr(value, "value", value)

    parameters = inspect.signature(shell.with_options(net)(lambda **asked: None)).parameters
    by_default = {
        name: plain(p.default) for name, p in parameters.items() if name not in ("ctx", "path", "list", "resume")
    }
    assert Config.asked(net, **by_default) == Config.asked(net)


def test_defaults_that_differ_by_network() -> None:
    found = {net: Config.asked(net) for net in NETS}
    assert {net: (c.epochs, c.batch_size, c.lr, c.size) for net, c in found.items()} == {
        "lenet": (20, 64, 2e-3, 28),
        "resnet": (10, 32, 1e-3, 224),
        "classifier": (10, 32, 1e-3, 224),
        "unet": (20, 16, 3e-3, 64),
        "diffusion": (300, 128, 2e-3, 8),
    }
    assert {net: (c.ema, c.augment) for net, c in found.items() if c.ema or not c.augment} == {
        "diffusion": (0.995, False)
    }
    assert {net: c.options for net, c in found.items()} == {
        "lenet": {"pool": "max", "norm": None, "channels": 1},
        "resnet": {"depth": 18},
        "classifier": {"model": "torchvision:efficientnet_b0"},
        "unet": {
            "channels": 1, "width": 16, "depth": 3, "unpool": "avg", "dilations": [1], "padding_mode": "zeros"
        },
        "diffusion": {"channels": 1, "steps": 500, "width": 32, "depth": 2, "unpool": "avg"},
    }  # fmt: skip


@pytest.mark.parametrize("net", NETS)
def test_networks_take_their_options(net: str) -> None:
    build(net, **Config.asked(net).options, **({"classes": 2} if net == "unet" else {}))


def test_choices_are_all_that_there_are() -> None:
    hints = get_type_hints(NetworkOptions)
    assert get_args(get_type_hints(Config)["dataset"]) == DATASETS
    assert get_args(hints["pool"]) == tuple(POOLS)
    assert set(get_args(hints["unpool"])) == set(UNPOOLS)


def test_options_of_another_network_are_refused() -> None:
    with pytest.raises(TypeError, match="dilations"):
        Config.asked("lenet", dilations="1,2")
    with pytest.raises(ValueError, match="`dilations` must be numbers as 1,2,4, got '1,x'"):
        Config.asked("unet", dilations="1,x")


def test_a_run_of_before_is_read(tmp_path: Path) -> None:
    """Its fields stood in another order then, and some were not there."""
    config = Config("unet", {"unpool": "max", "dilations": [1, 2]}, data="photos", size=32, backend="aten")
    kept = {name: value for name, value in reversed(asdict(config).items()) if name not in ("judge", "freeze")}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    assert Run(tmp_path).config() == config
