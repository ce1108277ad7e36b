"""The fused module in the place of the model: what it answers for, and what it does not."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchops
from bench.networks import with_statistics

from .conformance import close
from .networks import Block, image
from .test_fusion import conv


class Encoder(nn.Module):
    """As the encoders of segmentation models are: decoders ask for its channels, and a size check for its stride."""

    output_stride = 4
    names = None

    def __init__(self) -> None:
        super().__init__()
        self.depth, self._out_channels, self.about = 2, [4, 6], {"mean": (0.5, 0.5, 0.5)}
        self.stem, self.block = nn.Sequential(conv(3, stride=2), nn.BatchNorm2d(4), nn.ReLU()), Block(4, 6, 2)
        self.stages = [self.stem, self.block]
        self.offset = torch.tensor(1.0)

    @property
    def out_channels(self) -> list[int]:
        return self._out_channels[: self.depth]

    @property
    def broken(self) -> int:
        return self.out_chanels  # type: ignore[return-value]

    @classmethod
    def title(cls) -> str:
        return f"{cls.__name__} of stride {cls.output_stride}"

    @staticmethod
    def doubled(x: int) -> int:
        return 2 * x

    def pooled(self, x: Tensor) -> Tensor:
        return self(x)[-1].mean((2, 3))

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        self.stem[1].eval()
        return self

    def __len__(self) -> int:
        return self.depth

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x + self.offset)
        return [x, self.block(x)]


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % self.encoder.output_stride:
            raise RuntimeError("the width must be divisible by the stride")
        return self.head(self.encoder(x)[-1])


def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return with_statistics(Segmenter()).eval()


def _reloaded(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "itself": lambda module: module,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "saved": _reloaded,
    "fused_again": lambda module: torchops.fuse(module)[0],
    "converted": lambda module: torchops.convert(module)[0],
    "cast": lambda module: copy.deepcopy(module).double().float(),
    "twice": lambda module: pickle.loads(pickle.dumps(copy.deepcopy(module))),
}
each_copy = pytest.mark.parametrize("which", COPIES)


@each_copy
def test_a_fused_encoder_takes_the_place_of_the_models(which: str) -> None:
    """A size check cannot be traced: the model is kept whole, and what it calls is fused."""
    model, x = segmenter(), image(2, 3, 16, 12)
    expected = model(x)
    whole, report = torchops.fuse(model)
    assert type(whole) is Segmenter
    assert report.kept[""].endswith(f"{__file__}:{Segmenter.forward.__code__.co_firstlineno + 1})")
    fused, report = torchops.fuse(model.encoder)
    assert report.after.total() < report.before.total()
    model.encoder = COPIES[which](fused)
    close(model(x), expected, torch.float32, 10)
    with pytest.raises(RuntimeError, match="divisible by the stride"):
        model(image(1, 3, 16, 13))


@each_copy
def test_answers_for_attributes_and_methods(which: str) -> None:
    encoder, x = segmenter().encoder, image(1, 3, 8, 8)
    fused = COPIES[which](torchops.fuse(encoder)[0])
    assert (fused.output_stride, fused.names, fused.depth, fused.about) == (4, None, 2, {"mean": (0.5, 0.5, 0.5)})
    assert fused.out_channels == [4, 6]
    assert (fused.title(), fused.doubled(3)) == ("Encoder of stride 4", 6)
    close(fused.pooled(x), encoder.pooled(x), torch.float32, 10)
    # its own, not the model's
    fused.depth = 1
    fused.about["mean"] = None
    assert (fused.out_channels, encoder.out_channels) == ([4], [4, 6])
    assert encoder.about["mean"] == (0.5, 0.5, 0.5)


@each_copy
def test_does_not_answer_for_what_is_no_more(which: str) -> None:
    fused = COPIES[which](torchops.fuse(segmenter().encoder)[0])
    for name in ("stages", "missing", "__len__", "__getitem__"):
        assert not hasattr(fused, name)
    with pytest.raises(AttributeError, match="'out_chanels'"):
        _ = fused.broken
    assert not isinstance(fused, Encoder)
    # the encoder's own would be about a norm that is folded
    assert fused.train().training
    assert not fused.eval().training
    assert {name.rpartition(".")[2] for name in fused.state_dict()} == {"weight", "bias", "offset"}


def test_tensors_that_the_graph_reads_move_with_it() -> None:
    fused, _ = torchops.fuse(segmenter().encoder)
    assert "offset" in dict(fused.named_buffers())
    assert fused.double().offset.dtype == torch.float64
    assert fused(image(1, 3, 8, 8).double())[1].dtype == torch.float64


class Gone(nn.Module):
    """A class that is not there when its fused model is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.stride = conv(), 2

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_loads_where_the_models_class_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, _ = torchops.fuse(Gone().eval())
    pickled = pickle.dumps(fused)
    monkeypatch.delattr(f"{__name__}.Gone")
    again: Any = pickle.loads(pickled)
    x = image(1, 4, 5, 5)
    assert torch.equal(again(x), fused(x))
    assert again.stride == 2


def test_compiles_and_exports() -> None:
    torch.compiler.reset()
    model, x = segmenter(), image(2, 3, 16, 12)
    model.encoder = torchops.fuse(model.encoder)[0]
    with torch.no_grad():
        expected = model(x)
        close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected, torch.float32)
        close(torch.export.export(model, (x,)).module()(x), expected, torch.float32)
