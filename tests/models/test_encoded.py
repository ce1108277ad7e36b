"""U-Nets on an encoder of timm: their features, training, weights, files, tiles; and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from tests.models.tiny import Silent
from torchops.cli import app
from torchops.cli.export import _example
from torchops.models import Checkpoint, CheckpointError, EncodedUNet, build, classifier, load
from torchops.models.backbones import OnMeta, stages, statistics
from torchops.models.distributed import Processes
from torchops.models.encoded import DECODER
from torchops.models.inside import receptive_field
from torchops.models.options import Config
from torchops.models.runs import Run
from torchops.models.setup import data_for
from torchops.models.tiles import Tiles
from torchops.models.trained import probabilities
from torchops.models.training import Interrupted, Trainer, train

timm: Any = pytest.importorskip("timm", reason="its networks are the encoders")
RESNET, EFFICIENTNET, CONVNEXT = "timm:test_resnet", "timm:test_efficientnet", "timm:test_convnext"


def tiny(encoder: str = RESNET, **changes: Any) -> Config:
    small: dict[str, Any] = {"size": 32, "crops": 1, "epochs": 1, "seed": 1}
    options = {"encoder": encoder, "width": 4, **changes.pop("options", {})}
    return Config("unet", options, **{**small, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained for an epoch, with the way up alone, and for another one."""
    run = Run.create(tmp_path_factory.mktemp("encoded") / "run", tiny(freeze=1, epochs=2, layer_decay=0.5))
    train(run.config(), run, Silent())
    return run


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for trained weights fails."""

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoder", [RESNET, EFFICIENTNET, CONVNEXT])
def test_features_are_timms(encoder: str, channels: int) -> None:
    net = EncodedUNet(2, channels, encoder=encoder, width=4).double().eval()
    assert any(type(module).__module__ == "torchops.nn" for module in net.encoder.modules())
    theirs = timm.create_model(encoder.removeprefix("timm:"), features_only=True, in_chans=channels).double().eval()
    theirs.load_state_dict(net.encoder.state_dict())
    x = torch.rand(2, channels, 64, 96, dtype=torch.float64)
    ours = net.encoder(x)
    assert net.reductions == theirs.feature_info.reduction()
    for mine, other in zip(ours, theirs(x), strict=True):
        torch.testing.assert_close(mine, other)
    assert net(x).shape == (2, 2, 64, 96)


@pytest.mark.parametrize("unpool", ["avg", "transpose"])
@pytest.mark.parametrize("encoder", [RESNET, EFFICIENTNET, CONVNEXT])
def test_any_size_and_a_gradient_for_every_parameter(encoder: str, unpool: str) -> None:
    net = EncodedUNet(3, 1, encoder=encoder, width=2, unpool=unpool)
    y = net(torch.rand(2, 1, 45, 70))
    assert y.shape == (2, 3, 45, 70)
    y.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    with torch.no_grad():
        assert net.eval()(torch.rand(1, 1, 1, 1)).shape == (1, 3, 1, 1)
    with pytest.raises(ValueError, match=r"`x` must be \(N, 1, H, W\), got \(1, 3, 64, 64\)"):
        net(torch.rand(1, 3, 64, 64))


def test_features_of_the_images_own_size_take_its_place() -> None:
    with OnMeta():
        net, other = (EncodedUNet(2, 3, encoder=encoder, width=2) for encoder in ("timm:vgg11", "timm:resnet18"))
    inputs = [block.first[0].in_channels for unet in (net, other) for block in unet.merge]  # type: ignore[index, union-attr]
    assert inputs == [32 + 512, 16 + 512, 8 + 256, 4 + 128, 2 + 64, 32 + 256, 16 + 128, 8 + 64, 4 + 64, 2 + 3]


def test_layers_of_torch_say_the_same() -> None:
    ours = build("unet", classes=2, channels=3, encoder=RESNET, width=4).eval()
    theirs = build("unet", classes=2, channels=3, encoder=RESNET, width=4, layers="torch").eval()
    assert not any(type(m).__module__ == "torchops.nn" for m in theirs.encoder.modules())  # type: ignore[union-attr]
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"encoder": "resnet18"}, ValueError, "`encoder` must be timm:NAME, got resnet18"),
        ({"encoder": "torchvision:resnet18"}, ValueError, "`encoder` must be timm:NAME, got torchvision:resnet18"),
        ({"encoder": "timm:hf-hub:a/b"}, ValueError, "`encoder` must be timm:NAME"),
        ({"encoder": 18}, TypeError, "`encoder` must be timm:NAME, got int"),
        ({"encoder": "timm:resnet17"}, ValueError, r"`encoder` \(=timm:resnet17\): timm has no classifier resnet17; it"),
        ({"encoder": "timm:test_vit"}, ValueError, "its features are 1/16, 1/16, 1/16 of the image's height and width"),
        (
            {"encoder": "timm:maxvit_pico_rw_256"}, ValueError, "takes no images of 32 x 64 pixels: height.*divisible",
        ),
        ({"encoder": "timm:test_mambaout"}, ValueError, r"gives features of \[\(1, 8, 16, 16\)"),
        ({"unpool": "max"}, ValueError, r"`unpool` \(=max\): needs the places of the maxima, which an `encoder` does"),
        ({"unpool": "min"}, ValueError, "`unpool` must be one of avg, transpose, got min"),
        ({"width": 0}, ValueError, "`width` must be at least 1, got 0"),
        ({"weights": "nowhere"}, ValueError, "`weights` must be a file, a run or DEFAULT, got nowhere"),
        ({"depth": 3}, TypeError, "depth"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        build("unet", classes=2, **{"encoder": RESNET, **options})


def test_a_run_that_is_stopped_goes_on_to_the_same_end(run: Run, tmp_path: Path) -> None:
    def stop(epoch: int, step: int) -> None:
        trainer.stop = (epoch, step) == (2, 1)

    again = Run.create(tmp_path / "run", run.config())
    trainer = Trainer(again.config(), again, Processes.join("cpu"), Silent(stop))
    with pytest.raises(Interrupted):
        trainer.train()
    train(again.config(), again, Silent(), resume=True)
    whole, parts = Checkpoint.load(run.path).state, Checkpoint.load(again.path).state
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_frozen_epochs_train_the_way_up_alone(tmp_path: Path) -> None:
    states: list[dict[str, Tensor]] = []

    def look(epoch: int, step: int) -> None:
        states.append({name: tensor.clone() for name, tensor in trainer.net.state_dict().items()})

    run, watcher = Run.create(tmp_path / "run", tiny(freeze=1, epochs=2, layer_decay=0.5)), Silent(look)
    trainer = Trainer(run.config(), run, Processes.join("cpu"), watcher)
    first = {name: tensor.clone() for name, tensor in trainer.net.state_dict().items()}
    parts = list(stages(trainer.net, DECODER))
    named = {id(p): name for name, p in trainer.net.named_parameters()}
    begins = [named[id(part[0])].split(".")[1] for part in parts]
    assert begins == ["conv1", "layer1", "layer2", "layer3", "layer4", "0"]
    assert sum(len(part) for part in parts) == len(named)
    assert trainer.rates == pytest.approx([1e-3 * 0.5**k for k in (5, 4, 3, 2, 1, 0)])
    assert any(note.startswith(f"unet on {RESNET} of ") for note in watcher.notes)
    trainer.train()
    frozen = states[trainer.steps - 1]
    changed = {name for name in first if not torch.equal(first[name], frozen[name])}
    assert changed == {name for name in first if name.startswith(DECODER)}
    assert not torch.equal(first["encoder.conv1.0.weight"], states[-1]["encoder.conv1.0.weight"])


@pytest.mark.usefixtures("offline")
def test_a_run_is_loaded_without_a_download_and_asked(run: Run, tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(run.path)
    assert checkpoint.options == {"encoder": RESNET, "width": 4, "classes": 11}
    net: Any = load(run.path)
    image = torch.rand(1, 45, 70)
    assert net.predict(image).shape == (45, 70)
    Image.fromarray((image[0] * 255).byte().numpy()).save(tmp_path / "page.png")
    page = str(tmp_path / "page.png")
    for command in (["predict", str(run.path), page, "--out", str(tmp_path)],
                    ["look", str(run.path), page, "--layer", "merge.4", "--out", str(tmp_path)]):  # fmt: skip
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "page-mask.png") as mask:
        assert mask.size == (70, 45)
    _, shapes, _ = _example(run.path, 2, None, False, True)
    assert {dim.__name__: dim.min for dim in shapes[0].values()} == {"batch": 1, "height": 33, "width": 33}
    assert "if the encoder does not look at the whole image." in (run.path / "README.md").read_text()


def test_tiles_say_what_the_whole_image_says(run: Run) -> None:
    net = load(run.path)
    assert isinstance(net, EncodedUNet)
    # it adds up a 3 x 3 convolution and a pool, blocks of two convolutions, and the way up
    assert net.reach == 147
    tiles = Tiles.of(net, 32)
    assert (tiles.overlap, tiles.multiple) == (160, 32)
    x = torch.rand(1, 1, 45, 420)

    def ask(part: Tensor) -> Tensor:
        return probabilities(net, part).argmax(1)

    assert torch.equal(tiles.classes(ask, x), ask(x))


def test_tiles_of_what_looks_at_the_whole_image_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchops.models.encoded.FARTHEST", 512)
    net = EncodedUNet(2, 1, encoder=EFFICIENTNET, width=2).eval()
    assert net.reach is None
    with pytest.raises(ValueError, match=r"`tile` \(=64\): the network looks at the whole image.* with an `overlap`"):
        Tiles.of(net, 64)
    assert Tiles.of(net, 64, 32).overlap == 32
    with pytest.raises(ValueError, match=r"`tile` \(=16\): must be a multiple of 32"):
        Tiles.of(net, 16, 32)


def test_a_field_goes_through_scales_of_branches_and_activations_with_a_largest_value() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.full((1,), 1e-6))
            self.norm = nn.BatchNorm2d(1)
            self.convolution = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.gamma * nn.functional.relu6(self.convolution(self.norm(x)))
            return y

    net = nn.Sequential(*(Branch() for _ in range(8)))
    assert receptive_field(net, torch.rand(1, 1, 40, 40), "7")[2:] == (17, 17)


def test_weights_of_a_classifier_are_the_encoders(tmp_path: Path) -> None:
    trained = classifier(CONVNEXT, classes=7, converted=False)
    torch.save({"model": trained.state_dict()}, tmp_path / "other.pt")
    Checkpoint(
        "classifier", {"model": CONVNEXT, "classes": 7}, trained.state_dict(), list("abcdefg"), {"channels": 3}
    ).save(tmp_path / "run.pt")
    for name in ("other.pt", "run.pt"):
        config = tiny(CONVNEXT, options={"channels": 1}, weights=str(tmp_path / name))
        trainer = Trainer(config, Run(tmp_path / "none"), Processes.join("cpu"), Silent())
        own = trainer.net.encoder.state_dict()  # type: ignore[union-attr, operator]
        last = trained.state_dict()["stages.3.blocks.0.conv_dw.weight"]
        assert torch.equal(own["stages_3.blocks.0.conv_dw.weight"], last)
        # shades of gray are colours that are the same
        gray = trained.state_dict()["stem.0.weight"].sum(1, keepdim=True)
        torch.testing.assert_close(own["stem_0.weight"], gray)
        said = f"{tmp_path / name}: the weights are the encoder's: the way up has new ones"
        assert trainer.data.found.notes[1:] == [said]
    with pytest.raises(CheckpointError, match="these are weights of another network: there is no stem"):
        Trainer(tiny(weights=str(tmp_path / "other.pt")), Run(tmp_path / "none"), Processes.join("cpu"), Silent())


def test_weights_of_a_deeper_network_are_refused() -> None:
    net = EncodedUNet(2, 3, encoder=RESNET, width=2)
    state = classifier(RESNET, classes=5, converted=False).state_dict()
    net.take_encoder(state)
    assert torch.equal(net.encoder.state_dict()["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    with pytest.raises(ValueError, match="of another network: there is no layer1"):
        net.take_encoder({**state, "layer1.9.conv1.weight": state["layer1.0.conv1.weight"]})


def test_weights_of_a_run_are_of_the_whole_network(run: Run, tmp_path: Path) -> None:
    trainer = Trainer(tiny(weights=str(run.path)), Run(tmp_path / "none"), Processes.join("cpu"), Silent())
    state = Checkpoint.load(run.path).state
    assert all(torch.equal(tensor, state[name]) for name, tensor in trainer.net.state_dict().items())


def test_default_weights_are_timms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def loaded(model: nn.Module, *args: Any, **kwargs: Any) -> None:
        asked.append(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.25)

    monkeypatch.setattr("timm.models._builder.load_pretrained", loaded)
    net = EncodedUNet(2, 1, encoder=RESNET, weights="DEFAULT", width=4)
    assert len(asked) == 1
    assert net.state_dict()["encoder.conv1.0.weight"].eq(0.75).all()
    assert net.state_dict()["encoder.layer4.0.conv1.weight"].eq(0.25).all()
    trainer = Trainer(tiny(weights="DEFAULT"), Run(tmp_path / "none"), Processes.join("cpu"), Silent())
    assert "weights" not in trainer.options
    assert all(p.eq(0.25).all() for name, p in trainer.net.named_parameters() if name.startswith("encoder.layer"))


@pytest.mark.usefixtures("offline")
def test_a_download_that_fails_is_told() -> None:
    with pytest.raises(ConnectionError, match=r"`weights` \(=DEFAULT\): timm's weights of test_resnet cannot be downl"):
        EncodedUNet(2, 1, encoder=RESNET, weights="DEFAULT")


def test_images_in_colour_are_normalised_as_the_weights_know_them(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for n in range(2):
        Image.new("RGB", (40, 40), (200, 30, 90)).save(tmp_path / "images" / f"{n}.png")
        mask = Image.new("L", (40, 40), 0)
        mask.paste(1, (0, 0, 20, 20))
        mask.save(tmp_path / "masks" / f"{n}.png")
    colour = data_for(tiny(data=str(tmp_path), options={"channels": 3})).preprocess
    assert {"mean": colour.mean, "std": colour.std} == statistics(RESNET)
    assert data_for(tiny(data=str(tmp_path), options={"channels": 1})).preprocess.mean != (0.5,)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"encoder": "hf-hub:a/b"}, "of `options`, `encoder` must be timm:NAME"),
        ({"encoder": ["timm:resnet18"]}, "of `options`, `encoder` must be timm:NAME"),
        ({"encoder": "torchvision:resnet18"}, "`encoder` must be timm:NAME"),
        ({"encoder": "timm:nothing_like_it"}, "timm has no classifier nothing_like_it"),
        ({"encoder": "timm:vit_giant_patch14_dinov2"}, "the weights do not fit unet"),
        ({"encoder": "timm:convnextv2_huge"}, "the weights do not fit unet"),
        ({"width": 10**6}, "the weights do not fit unet"),
        ({"weights": "DEFAULT"}, "name other weights"),
        ({"pretrained": True}, "the weights do not fit unet"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_hostile_checkpoints_are_refused(options: dict[str, Any], match: str, tmp_path: Path) -> None:
    own = {"encoder": RESNET, "width": 2, "classes": 2}
    saved = Checkpoint("unet", {**own, **options}, build("unet", **own).state_dict(), ["a", "b"], {"channels": 1})
    saved.save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=match):
        load(tmp_path / "c.pt")


def test_options_of_the_shell() -> None:
    assert Config.asked("unet", encoder=RESNET).options == {
        "encoder": RESNET, "channels": 1, "width": 16, "unpool": "avg",
    }  # fmt: skip
    assert "encoder" not in Config.asked("unet").options
    assert Config.asked("unet", depth=4).options["depth"] == 4
    for name, value in {"depth": 3, "dilations": "1,2", "padding_mode": "reflect"}.items():
        with pytest.raises(ValueError, match=rf"`{name}` \(={value}\): is of a U-Net without an `encoder`"):
            Config.asked("unet", encoder=RESNET, **{name: value})
    for name, number in {"freeze": 1, "layer_decay": 0.5}.items():
        with pytest.raises(ValueError, match=rf"`{name}` \(={number}\): is that of an `encoder`, and there is none"):
            Config.asked("unet", **{name: number})


def test_the_configuration_names_the_encoder(run: Run) -> None:
    assert json.loads((run.path / "config.json").read_text())["options"] == {"encoder": RESNET, "width": 4}
    changed = copy.deepcopy(run.config())
    changed.options["encoder"] = EFFICIENTNET
    with pytest.raises(ValueError, match=r"`encoder`.*the run was started with timm:test_resnet"):
        run.config().changed(changed)
