"""The networks themselves: shapes, options, and that they learn, through the Triton kernels as well."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchops
from tests.conformance import close
from torchops.models import Diffusion, LeNet, UNet, build, load_backbone, resnet
from torchops.models.checkpoints import POOLS
from torchops.models.data import digits
from torchops.models.resnet import STAGES, stages
from torchops.models.unet import UNPOOLS

ROOT = Path(__file__).parent.parent.parent
NETS: dict[str, Callable[[], nn.Module]] = {
    "lenet-max": lambda: LeNet(widths=(4, 6), hidden=16, size=16),
    "lenet-avg-before": lambda: LeNet(widths=(4, 6), hidden=16, size=16, pool=POOLS["avg"], norm="before"),
    "lenet-min-after": lambda: LeNet(widths=(4, 6), hidden=16, size=16, pool=POOLS["min"], norm="after"),
    "unet-max-reflect": lambda: UNet(3, width=4, depth=1, unpool="max", padding_mode="reflect"),
    "unet-avg": lambda: UNet(3, width=4, depth=1, unpool="avg"),
    "unet-transpose-dilated": lambda: UNet(3, width=4, depth=1, unpool="transpose", dilations=(1, 2)),
    "diffusion": lambda: Diffusion(size=16, width=8, depth=1, embedding=8, steps=10),
}
each_net = pytest.mark.parametrize("name", NETS)


def _problem(name: str, device: torch.device) -> tuple[Callable[[nn.Module], Tensor], Tensor]:
    """A loss on a batch of real digits, and the batch."""
    images, targets = digits()
    x = F.interpolate(images[:3], size=16, mode="bilinear", align_corners=False).to(device) * 2 - 1
    y = targets[:3].to(device)
    if name.startswith("lenet"):
        return lambda net: F.nll_loss(net(x), y), x
    if name.startswith("unet"):
        # paper, grey and ink; flat, since the loss of images has no deterministic form on a GPU
        ink = torch.bucketize(x[:, 0], torch.tensor([-0.5, 0.5], device=device))
        return lambda net: F.cross_entropy(net(x).movedim(1, -1).flatten(0, -2), ink.flatten()), x
    t, noise = torch.tensor([0, 4, 8], device=device), torch.randn_like(x)

    def denoising(net: nn.Module) -> Tensor:
        assert isinstance(net, Diffusion)
        noised, velocity = net.diffuse(x, t, noise)
        return F.mse_loss(net(noised, t), velocity)

    return denoising, x


@pytest.mark.tiers("aten", "interpreter", "gpu")
@each_net
def test_learns(name: str, device: torch.device, tier: str) -> None:
    """A few steps on real digits: every step through the kernels of the tier, the loss falls."""
    net = NETS[name]().to(device)
    loss_of, _ = _problem(name, device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    # a step of a U-Net takes seconds in the interpreter
    for _ in range(3 if tier == "interpreter" else 6):
        loss = loss_of(net)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < (0.97 if tier == "interpreter" else 0.9) * losses[0], losses


@each_net
def test_layers_of_torch_compute_the_same(name: str) -> None:
    """torch.nn's layers in place of ours: the same names, the same loss, the same gradients."""
    ours = NETS[name]()
    theirs, report = torchops.revert(ours)
    assert report.swapped
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    loss_of, _ = _problem(name, torch.device("cpu"))
    torch.use_deterministic_algorithms(False)  # ATen's max_unpool2d would refuse
    losses = [loss_of(net) for net in (ours, theirs)]
    close(losses[0], losses[1], torch.float32)
    grads = [torch.autograd.grad(loss, list(ours.parameters())) for loss in losses]
    for mine, other in zip(*grads, strict=True):
        close(mine, other, torch.float32, 10)


@each_net
def test_compiles_exports_and_fuses(name: str) -> None:
    net = NETS[name]().eval()
    _, x = _problem(name, torch.device("cpu"))
    arguments = (x, torch.tensor([0, 1, 2])) if name == "diffusion" else (x,)
    with torch.no_grad():
        expected = net(*arguments)
        close(torch.compile(net, backend="aot_eager", fullgraph=True)(*arguments), expected, torch.float32)
        close(torch.export.export(net, arguments).module()(*arguments), expected, torch.float32)
        fused, report = torchops.fuse(net)
        close(fused(*arguments), expected, torch.float32, 10)
    assert report.after.total() < report.before.total()


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("unpool", UNPOOLS)
def test_unet_is_exported_for_any_size(unpool: str, fused: bool) -> None:
    """The crop is a view of a result that is contiguous for some sizes: those of an example are not all there are."""
    net: nn.Module = UNet(2, width=4, depth=2, unpool=unpool).eval()
    if fused:
        net, _ = torchops.fuse(net)
    sizes = {0: torch.export.Dim("batch", max=16)}
    sizes |= {d: torch.export.Dim(name, min=5, max=4096) for d, name in ((2, "height"), (3, "width"))}
    program = torch.export.export(net, (torch.rand(2, 1, 21, 27),), dynamic_shapes=(sizes,)).module()
    for shape in ((1, 1, 24, 32), (3, 1, 5, 5), (2, 1, 40, 9), (1, 1, 7, 62)):
        x = torch.rand(shape)
        with torch.no_grad():
            exported, expected = program(x), net(x)
        close(exported, expected, torch.float32)
        assert exported.stride() == expected.stride()


def test_lenet_says_log_probabilities() -> None:
    close(LeNet(classes=7, channels=3, size=33)(torch.rand(2, 3, 33, 33)).exp().sum(1), torch.ones(2), torch.float32)


@pytest.mark.parametrize("norm", ["before", "after"])
def test_lenet_norm_stands_where_it_is_asked_for(norm: str) -> None:
    kinds = [type(m) for m in LeNet(norm=norm).features]
    assert kinds.index(nn.BatchNorm2d) - kinds.index(nn.ReLU) == {"before": -1, "after": 1}[norm]


@pytest.mark.parametrize("unpool", UNPOOLS)
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (13, 30), (31, 2)])
def test_unet_takes_any_size(unpool: str, size: tuple[int, int]) -> None:
    net = UNet(5, 2, width=4, depth=3, unpool=unpool).eval()
    x = torch.rand(1, 2, *size)
    y = net(x)
    assert y.shape == (1, 5, *size)
    # what is padded is the border once more
    h, w = (-s % 8 for s in size)
    torch.testing.assert_close(y, net(F.pad(x, (0, w, 0, h), mode="replicate"))[..., : size[0], : size[1]])


def test_unet_sees_further_with_dilations() -> None:
    """How far the input reaches that a pixel of the result depends on."""

    def reach(dilations: tuple[int, ...]) -> int:
        net = UNet(1, width=4, depth=1, unpool="avg", dilations=dilations).eval()
        x = torch.rand(1, 1, 1, 96).expand(-1, -1, 96, -1).clone().requires_grad_()
        net(x)[0, 0, 48, 48].backward()
        assert x.grad is not None
        return int((x.grad[0, 0].abs().sum(0) > 0).sum())

    assert reach((1, 2, 4)) >= reach((1,)) + 2 * 2 * 2 * (2 + 4)


def test_perfect_knowledge_of_the_velocity_gives_the_image_back() -> None:
    """DDIM and DDPM, many steps and few: a network that knows the velocity leads to the image it belongs to."""
    image = torch.rand(1, 1, 8, 8) * 2 - 1
    model = Diffusion(size=8, width=8, depth=1, steps=50)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = model.signal[t].view(-1, 1, 1, 1), model.noise[t].view(-1, 1, 1, 1)
        noised, v = model.diffuse(image.expand_as(x), t, (x - signal * image) / noise)
        torch.testing.assert_close(noised, x)
        return v

    model.forward = velocity  # type: ignore[method-assign]
    for steps, eta in ((50, 1.0), (50, 0.0), (7, 0.0), (1, 0.0)):
        drawn = model.sample(2, steps=steps, eta=eta, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(drawn, image.expand(2, -1, -1, -1), atol=2e-3, rtol=0)


def test_noise_of_ddpm_keeps_the_variance_of_the_schedule() -> None:
    """Between two times, with the image known to be 0, x has the noise of its time, whatever eta."""
    model = Diffusion(size=16, width=8, depth=1, steps=20)
    seen: list[float] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(x.std()) / float(model.noise[t[0]]))
        return x * (model.signal[t] / model.noise[t]).view(-1, 1, 1, 1)

    model.forward = velocity  # type: ignore[method-assign]
    for eta in (0.0, 0.5, 1.0):
        model.sample(64, eta=eta, generator=torch.Generator().manual_seed(0))
    assert len(seen) == 60
    assert min(seen) > 0.97
    assert max(seen) < 1.03


def test_samples_depend_on_the_generator_alone() -> None:
    model = Diffusion(size=8, width=8, depth=1, steps=5).eval()
    one, other = (model.sample(2, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, model.sample(2, generator=torch.Generator().manual_seed(4)))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (partial(LeNet, size=15), r"`size` must be 16 or more, got 15"),
        (partial(LeNet, norm="behind"), r"`norm` must be .*'behind'"),
        (partial(UNet, 2, unpool="sum"), r"`unpool` must be one of max, avg, transpose, got 'sum'"),
        (partial(UNet, 2, depth=0), r"`depth` must be at least 1, got 0"),
        (partial(UNet, 2, dilations=()), r"`dilations` must be"),
        (partial(Diffusion, steps=1), r"`steps` must be at least 2, got 1"),
        (partial(Diffusion, width=12), r"`width` must be a multiple of 8"),
        (partial(resnet, 20), r"`depth` must be one of 18, 34, 50, 101, 152, got 20"),
        (partial(resnet, 18, weights="IMAGENET9"), r"`weights` must be one of IMAGENET1K_V1.*'IMAGENET9'"),
        (partial(build, "alexnet"), r"`net` must be one of lenet, resnet, classifier, unet, diffusion, got 'alexnet'"),
        (partial(build, "lenet", pool="sum"), r"`pool` must be one of max, avg, min, got 'sum'"),
        (partial(build, "lenet", layers="tf"), r"`layers` must be"),
        (lambda: Diffusion(steps=5, width=8, depth=1).sample(1, steps=6), r"`steps` must lie within 1 and 5, got 6"),
    ],
)
def test_rejects(make: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_resnet_gets_a_head_of_its_own_classes() -> None:
    trained, fresh = resnet(18), resnet(18, classes=3)
    assert fresh(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    head = fresh.fc.weight.clone()  # type: ignore[union-attr,operator]
    load_backbone(fresh, trained.state_dict())
    assert torch.equal(fresh.conv1.weight, trained.conv1.weight)  # type: ignore[union-attr,arg-type]
    assert torch.equal(fresh.fc.weight, head)  # type: ignore[union-attr,arg-type]
    again = resnet(18)
    load_backbone(again, trained.state_dict())
    assert torch.equal(again.fc.weight, trained.fc.weight)  # type: ignore[union-attr,arg-type]
    with pytest.raises(ValueError, match="weights of another network"):
        load_backbone(resnet(34), trained.state_dict())
    with pytest.raises(ValueError, match="weights of another network"):
        load_backbone(fresh, LeNet().state_dict())


def test_stages_of_a_resnet_hold_every_parameter_once() -> None:
    net = resnet(18, classes=3)
    parts = dict(stages(net))
    assert list(parts) == list(STAGES)
    assert sorted(id(p) for part in parts.values() for p in part) == sorted(map(id, net.parameters()))
    assert id(net.conv1.weight) in map(id, parts["layer1"])  # type: ignore[union-attr]


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: "/nonexistent")
    with pytest.raises(ConnectionError, match=r"get https://\S+resnet18\S+ elsewhere and pass the file as `weights`"):
        resnet(18, weights="DEFAULT")


def test_hub() -> None:
    options: dict[str, dict[str, Any]] = {
        "lenet": {"classes": 3, "pool": "min"}, "resnet": {"depth": 18, "classes": 2}, "unet": {"classes": 2}, "diffusion": {},
    }  # fmt: skip
    for name, chosen in options.items():
        net = torch.hub.load(str(ROOT), name, source="local", **chosen)
        assert any(type(m).__module__ == "torchops.nn" for m in net.modules())
