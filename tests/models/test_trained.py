"""A trained network asked about an image: the same answer by every way in, and a network like any other."""

from __future__ import annotations

import copy
import io
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import torchops
from tests.conformance import close
from torchops.files.images import ImageError
from torchops.models import Checkpoint, Diffusion, LeNet, UNet, build, load

ROOT = Path(__file__).parent.parent.parent
OPTIONS: dict[str, dict[str, Any]] = {
    "lenet": {"classes": 3, "size": 16, "widths": [2, 3], "hidden": 4, "norm": "before"},
    "unet": {"classes": 3, "width": 2, "depth": 1},
    "resnet": {"classes": 3},
    "diffusion": {"width": 8, "depth": 1, "steps": 4},
}
PREPARED: dict[str, dict[str, Any]] = {
    "lenet": {"channels": 1, "size": 16, "mean": (0.25,), "std": (0.5,)},
    "unet": {"channels": 1},
    "resnet": {"channels": 3, "size": 32, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)},
    "diffusion": {"channels": 1, "size": 8},
}
LABELS = ["cat", "dog", "[b]"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each network."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for net, options in OPTIONS.items():
        torch.manual_seed(0)
        state = build(net, **options).state_dict()
        Checkpoint(net, options, state, LABELS, PREPARED[net]).save(folder / f"{net}.pt")
    return {net: folder / f"{net}.pt" for net in OPTIONS}


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)


def ways_in(pixels: np.ndarray[Any, Any], folder: Path) -> dict[str, Any]:
    """One image, in all the forms that it can come in."""
    path = folder / "image.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels)
    return {
        "path": path,
        "text": str(path),
        "pillow": Image.fromarray(pixels),
        "rgb": Image.fromarray(pixels).convert("RGB"),
        "array": pixels,
        "array-of-channels": pixels[..., None],
        "array-float": pixels / 255,
        "array-turned": np.flipud(np.flipud(pixels)),
        "tensor": tensor,
        "tensor-of-channels": tensor[None],
        "tensor-float": (tensor / 255).requires_grad_(),
        "tensor-double": tensor.double() / 255,
    }


def test_prepare_gives_one_batch_for_every_way_in(
    files: dict[str, Path], pixels: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    net: Any = load(files["lenet"])
    assert net.classes == ("cat", "dog", "[b]")
    expected = ((torch.from_numpy(pixels).double() / 255 - 0.25) / 0.5).float()[None, None]
    for name, image in ways_in(pixels, tmp_path).items():
        batch = net.prepare(image)
        assert batch.shape == (1, 1, 16, 16), name
        assert not batch.requires_grad
        torch.testing.assert_close(batch, expected, rtol=0, atol=3e-6, msg=name)


def test_prepare_says_what_it_does(files: dict[str, Path]) -> None:
    net: Any = load(files["resnet"])
    assert re.match(r"Prepare\(channels=3, size=32, mean=\(0\.5, 0\.4, 0\.3\), std=", repr(net.prepare)), net.prepare


def test_prepare_brings_images_to_channels_and_size(files: dict[str, Path]) -> None:
    net: Any = load(files["resnet"])
    grey = torch.full((40, 64), 255, dtype=torch.uint8)
    wanted = torch.tensor([(1 - 0.5) / 0.2, (1 - 0.4) / 0.2, (1 - 0.3) / 0.2]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(net.prepare(grey), wanted)
    torch.testing.assert_close(net.prepare(torch.ones(3, 64, 40)), wanted)
    torch.testing.assert_close(net.prepare(np.ones((40, 64, 3), np.float32)), wanted)


def test_pillow_images_are_read_as_files_are(files: dict[str, Path], tmp_path: Path) -> None:
    """Turned upright, transparent on white, and of more than 8 bits."""
    net: Any = load(files["unet"])
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:2] = (200, 100, 50, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgba).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(np.full((4, 6), 30000, np.uint16)).save(tmp_path / "b.png")
    for name, shape in {"a.png": (1, 1, 6, 4), "b.png": (1, 1, 4, 6)}.items():
        with Image.open(tmp_path / name) as image:
            batch = net.prepare(image)
        assert batch.shape == shape
        assert torch.equal(batch, net.prepare(tmp_path / name))
    assert float(net.prepare(tmp_path / "a.png").max()) == 1.0


@pytest.mark.parametrize(
    ("image", "error", "match"),
    [
        (3, TypeError, "`image` must be a path, a Pillow image, a tensor or a NumPy array, got int"),
        (None, TypeError, "got NoneType"),
        ([[0.5]], TypeError, "got list"),
        (torch.zeros(16, 16, dtype=torch.int64), TypeError, "`image` must be dense, of uint8 or floating point, got .*int64"),
        (torch.zeros(16, 16).to_sparse(), TypeError, "`image` must be dense"),
        (torch.zeros(16, 16, dtype=torch.bool), TypeError, "got torch.bool"),
        (np.zeros((16, 16), np.int32), TypeError, "`image` must be of uint8 or floating point, got int32"),
        (torch.zeros(16), ValueError, r"`image` must be \(H, W\) or \(C, H, W\), C = 1 or 3, got \(16,\)"),
        (torch.zeros(1, 1, 16, 16), ValueError, r"got \(1, 1, 16, 16\)"),
        (torch.zeros(16, 16, 3), ValueError, r"got \(16, 16, 3\)"),
        (torch.zeros(3, 0, 16), ValueError, r"got \(3, 0, 16\)"),
        (np.zeros((3, 16, 16)), ValueError, r"`image` must be \(H, W\) or \(H, W, C\), C = 1 or 3, got \(3, 16, 16\)"),
        (np.zeros((16, 16, 4), np.uint8), ValueError, r"got \(16, 16, 4\)"),
        (torch.full((16, 16), 200.0), ValueError, "`image` must have values from 0 to 1, or be uint8, got 200 to 200"),
        (torch.full((16, 16), -1.0), ValueError, "got -1 to -1"),
        (torch.full((16, 16), float("nan")), ValueError, "got nan to nan"),
        ("missing.png", ImageError, "missing.png: no such file"),
    ],
)  # fmt: skip
def test_prepare_refuses_what_is_no_image(
    image: Any, error: type[Exception], match: str, files: dict[str, Path]
) -> None:
    net: Any = load(files["lenet"])
    for ask in (net.prepare, net.predict):
        with pytest.raises(error, match=match) as caught:
            ask(image)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("net", ["lenet", "resnet"])
def test_predicts_probabilities_the_likeliest_first(
    net: str, files: dict[str, Path], pixels: np.ndarray[Any, Any]
) -> None:
    model: Any = load(files[net])
    with torch.no_grad():
        expected = model(model.prepare(pixels))[0].softmax(0)
    found = model.predict(pixels)
    assert sorted(found) == sorted(LABELS)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert [found[label] for label in LABELS] == pytest.approx(expected.tolist())
    assert sum(found.values()) == pytest.approx(1)


def test_predicts_the_class_of_every_pixel(files: dict[str, Path], pixels: np.ndarray[Any, Any]) -> None:
    model: Any = load(files["unet"])
    found = model.predict(pixels[:9])
    assert found.dtype == torch.int64
    assert found.shape == (9, 16)
    with torch.no_grad():
        assert torch.equal(found, model(model.prepare(pixels[:9]))[0].argmax(0))


def test_a_diffusion_model_does_not_predict(files: dict[str, Path]) -> None:
    model: Any = load(files["diffusion"])
    with pytest.raises(TypeError, match="draws images by `sample`, it does not predict"):
        model.predict(torch.zeros(8, 8))


def test_scores_that_are_not_finite_are_refused(files: dict[str, Path], pixels: np.ndarray[Any, Any]) -> None:
    model: Any = load(files["lenet"])
    with torch.no_grad():
        model.classifier[3].bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="scores are not finite"):
        model.predict(pixels)


def test_predict_asks_in_eval_mode_and_leaves_the_modes(files: dict[str, Path], pixels: np.ndarray[Any, Any]) -> None:
    model: Any = load(files["lenet"])
    expected, state = model.predict(pixels), copy.deepcopy(model.state_dict())
    model.train()
    model.features[1].eval()
    modes = [module.training for module in model.modules()]
    assert model.predict(pixels) == expected
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(("net", "cls"), [("lenet", LeNet), ("unet", UNet), ("diffusion", Diffusion)])
def test_a_trained_network_is_one_like_any_other(net: str, cls: type[nn.Module], files: dict[str, Path]) -> None:
    plain, model = build(net, **OPTIONS[net]), load(files[net])
    assert type(model) is cls
    assert not model.training
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert str(model) == str(plain.eval())


def changed(net: nn.Module) -> None:
    """Make the last class the likeliest by far."""
    with torch.no_grad():
        net.get_parameter("classifier.3.bias").copy_(torch.tensor([0.0, 0.0, 50.0]))


def pickled(net: nn.Module) -> nn.Module:
    raw = io.BytesIO()
    torch.save(net, raw)
    raw.seek(0)
    again: nn.Module = torch.load(raw, weights_only=False)
    return again


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_asks_itself(copied: Any, files: dict[str, Path], pixels: np.ndarray[Any, Any]) -> None:
    model: Any = load(files["lenet"])
    before = model.predict(pixels)
    twin = copied(model)
    assert twin.predict(pixels) == before
    changed(twin)
    assert next(iter(twin.predict(pixels))) == "[b]"
    assert model.predict(pixels) == before
    assert twin.classes == model.classes


def test_converted_and_moved_networks_predict(files: dict[str, Path], pixels: np.ndarray[Any, Any]) -> None:
    model: Any = load(files["lenet"])
    before = model.predict(pixels)
    reverted: Any = torchops.revert(model)[0]
    for other in (
        reverted,
        torchops.convert(reverted)[0],
        load(files["lenet"], layers="torch"),
        load(files["lenet"]).double(),
    ):
        found = other.predict(pixels)
        assert list(found) == list(before)
        assert list(found.values()) == pytest.approx(list(before.values()), abs=1e-5)


@pytest.mark.parametrize("net", ["lenet", "unet"])
def test_a_loaded_network_compiles_exports_and_fuses(net: str, files: dict[str, Path]) -> None:
    model, plain = load(files[net]), build(net, **OPTIONS[net]).eval()
    x = torch.rand(2, 1, 16, 16)
    fused, report = torchops.fuse(model)
    assert str(report) == str(torchops.fuse(plain)[1])
    by_example, _ = torchops.fuse(model, args=(x,))
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("n", max=8)},)).module()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        expected = model(x)
        for other in (fused, by_example, exported, compiled, torch.func.vmap(lambda v: model(v[None])[0])):
            close(other(x), expected, torch.float32, 10)


def test_hub_gives_the_same(files: dict[str, Path], pixels: np.ndarray[Any, Any]) -> None:
    model: Any = load(files["lenet"])
    found: Any = torch.hub.load(str(ROOT), "lenet", source="local", checkpoint=str(files["lenet"]))
    assert found.classes == model.classes
    assert torch.equal(found.prepare(pixels), model.prepare(pixels))
    assert found.predict(pixels) == model.predict(pixels)


def without(missing: str, code: str) -> str:
    """What a line of Python says where a module is not installed."""
    code = f"import sys; sys.modules[{missing!r}] = None\nimport torch, torchops\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr.strip().rpartition("\n")[2]


def test_what_to_install_is_said(files: dict[str, Path]) -> None:
    code = """
def says(action):
    try:
        action()
    except ModuleNotFoundError as error:
        print(error)
says(lambda: torchops.models.build("resnet"))
says(lambda: torchops.models.resnet())
says(lambda: __import__("torchops.models.data"))
net = torchops.models.load({path!r})
print(net(torch.zeros(1, 1, 16, 16)).shape, net.classes)
says(lambda: net.prepare(torch.zeros(16, 16)))
says(lambda: net.predict(torch.zeros(16, 16)))
"""
    install = "needs torchvision: pip install 'torchops[models]'"
    assert without("torchvision", code.replace("{path!r}", repr(str(files["lenet"])))).splitlines() == [
        f"ResNet {install}",
        f"ResNet {install}",
        f"torchops.models.data {install}",
        "torch.Size([1, 3]) ('cat', 'dog', '[b]')",
        f"`prepare` {install}",
        f"`prepare` {install}",
    ]


def test_models_are_there_by_name_without_torchvision() -> None:
    code = 'print(torchops.models.LeNet().size, "models" in dir(torchops), "torchvision.ops" in sys.modules)'
    assert without("nothing", code) == "28 True False\n"


@pytest.mark.parametrize(
    ("make", "shape", "match"),
    [
        (LeNet, (2, 1, 32, 32), r"`x` must be \(N, 1, 28, 28\), got \(2, 1, 32, 32\)"),
        (LeNet, (2, 1, 28, 30), r"`x` must be \(N, 1, 28, 28\), got \(2, 1, 28, 30\)"),
        (LeNet, (2, 3, 28, 28), r"`x` must be \(N, 1, 28, 28\), got \(2, 3, 28, 28\)"),
        (LeNet, (1, 28, 28), r"`x` must be \(N, 1, 28, 28\), got \(1, 28, 28\)"),
        (lambda: UNet(2, 3), (2, 1, 32, 32), r"`x` must be \(N, 3, H, W\), got \(2, 1, 32, 32\)"),
        (lambda: UNet(2), (1, 32, 32), r"`x` must be \(N, 1, H, W\), got \(1, 32, 32\)"),
        (lambda: UNet(2), (1, 1, 0, 32), "`x` must be at least 1 x 1 pixels, got 0 x 32"),
        (lambda: UNet(2, depth=1, dilations=(1, 4), padding_mode="reflect"), (1, 1, 8, 20),
         "`x` must be at least 9 x 9 pixels, got 8 x 20"),
        (lambda: UNet(2, depth=1, dilations=(1, 4), padding_mode="circular"), (1, 1, 20, 6),
         "`x` must be at least 7 x 7 pixels, got 20 x 6"),
        (lambda: UNet(2, embedding=8), (1, 1, 8, 8), r"`embedding` must be \(N, 8\), got None"),
    ],
)  # fmt: skip
def test_images_of_a_wrong_size_are_told_the_right_one(make: Any, shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=f"^{match}$"):
        make().eval()(torch.rand(shape))


@pytest.mark.parametrize("padding_mode", ["reflect", "circular", "zeros", "replicate"])
@pytest.mark.parametrize("dilations", [(1,), (1, 3)])
def test_the_smallest_image_is_taken(padding_mode: str, dilations: tuple[int, ...]) -> None:
    net = UNet(2, width=2, depth=2, dilations=dilations, padding_mode=padding_mode).eval()
    assert net(torch.rand(1, 1, net.least, net.least)).isfinite().all()
    if net.least > 1:
        with pytest.raises(ValueError, match=f"at least {net.least} x {net.least} pixels"):
            net(torch.rand(1, 1, net.least - 1, 99))


def test_a_time_must_be_one_for_each_image() -> None:
    net = Diffusion(width=8, depth=1, steps=4)
    with pytest.raises(ValueError, match=r"`t` must be \(N,\), got \(\)"):
        net(torch.rand(2, 1, 8, 8), torch.tensor(3))
    with pytest.raises(ValueError, match=r"`x` must be \(N, 1, H, W\), got \(2, 3, 8, 8\)"):
        net(torch.rand(2, 3, 8, 8), torch.tensor([3, 3]))


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="`x` must be a tensor, got ndarray"):
        LeNet()(np.zeros((1, 1, 28, 28)))


def test_torchscript_takes_networks_of_torchs_layers() -> None:
    net, x = torchops.revert(LeNet())[0].eval(), torch.rand(2, 1, 28, 28)
    with warnings.catch_warnings():
        # torch deprecates both
        warnings.simplefilter("ignore")
        scripted, traced = torch.jit.script(net), torch.jit.trace(net, x)
    torch.testing.assert_close(scripted(x), net(x))
    torch.testing.assert_close(traced(x), net(x))


def test_tracing_asks_nothing() -> None:
    """What is asked of shapes would be a warning, which is an error here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.trace.* is deprecated")
        traced = torch.jit.trace(torchops.revert(LeNet())[0].eval(), torch.rand(2, 1, 28, 28))
    assert traced(torch.rand(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: LeNet(size="big"), TypeError, "`size` must be a whole number, got 'big'"),
        (lambda: LeNet(classes=True), TypeError, "`classes` must be a whole number, got True"),
        (lambda: LeNet(classes=0), ValueError, "`classes` must be at least 1, got 0"),
        (lambda: LeNet(widths=(4,)), ValueError, "`widths` must be 2 numbers, got 1"),
        (lambda: LeNet(widths=4), TypeError, "`widths` must be whole numbers, got int"),
        (lambda: UNet(2, width=1.5), TypeError, "`width` must be a whole number, got 1.5"),
        (lambda: UNet(2, depth=17), ValueError, "`depth` must be at most 16, got 17"),
        (lambda: UNet(2, dilations="1,2"), TypeError, "`dilations` must be whole numbers, got str"),
        (lambda: UNet(2, dilations=(300,)), ValueError, "`dilations` must be at most 256, got 300"),
        (lambda: Diffusion(steps="many"), TypeError, "`steps` must be a whole number, got 'many'"),
        (lambda: Diffusion(embedding=7), ValueError, "`embedding` must be even"),
        (lambda: build("resnet", classes=2.0), TypeError, "`classes` must be a whole number, got 2.0"),
        (lambda: build(["lenet"]), ValueError, "`net` must be one of lenet, resnet, classifier, unet, diffusion, got"),
        (lambda: build("lenet", pool=["max"]), ValueError, "`pool` must be one of max, avg, min, got"),
    ],
)
def test_options_of_wrong_types(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
