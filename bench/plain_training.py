"""The training loop that one writes with torch.nn: what `python -m bench.throughput` races `torchops train` with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from torchops.models.data import Data
from torchops.models.options import Config
from torchops.models.setup import CHANNELS_LAST, net_for
from torchops.nn import AvgUnpool2d


class Digits(Dataset[tuple[Tensor, Tensor]]):
    """Images in memory with a transform, as torchvision's MNIST is."""

    def __init__(self, images: Tensor, targets: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        self.images, self.targets, self.transform = images, targets, transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[index]), self.targets[index]


def datasets(config: Config, data: Data) -> tuple[Dataset[Any], Dataset[Any]]:
    """What is trained on and what is held out: the images of `data`, through torchvision's datasets and transforms."""
    train: Any = data.train
    val: Any = data.val
    normalize = v2.Normalize(list(data.preprocess.mean), list(data.preprocess.std))
    if config.net == "unet":
        # pages to train on are drawn anew in every epoch, held-out ones once
        return train, TensorDataset(*default_collate([val[i] for i in range(len(val))]))
    if config.net == "lenet":
        written = v2.RandomAffine(
            degrees=12, translate=(0.08, 0.08), scale=(0.9, 1.1), shear=8, interpolation=v2.InterpolationMode.BILINEAR
        )
        change = v2.Compose([written, normalize])
        return Digits(train.images, train.targets, change), Digits(val.images, val.targets, normalize)
    size, last = config.size, [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), normalize]
    change = v2.Compose([v2.RandomResizedCrop(size, scale=(0.6, 1.0)), v2.RandomHorizontalFlip(), *last])
    whole = v2.Compose([v2.Resize(size), v2.CenterCrop(size), *last])
    return ImageFolder(f"{config.data}/train", change), ImageFolder(f"{config.data}/val", whole)


def network(config: Config, data: Data) -> nn.Module:
    """The same network of torch.nn's layers; average unpooling is nearest interpolation there."""
    config.layers = "torch"
    net, _ = net_for(config, data)
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, AvgUnpool2d):
                setattr(module, name, nn.Upsample(scale_factor=2))
    return net


def dice_loss(scores: Tensor, truth: Tensor) -> Tensor:
    """1 minus the soft Dice coefficient, the mean over the classes that an image shows, and over images."""
    p, t = scores.softmax(1), F.one_hot(truth, scores.shape[1]).movedim(-1, 1).float()
    both, sizes, there = (p * t).sum((2, 3)), (p + t).sum((2, 3)), t.sum((2, 3)) > 0
    return ((1 - 2 * both / sizes) * there).sum(1).div(there.sum(1)).mean()


class Plain:
    """A network and its data; call it for an epoch."""

    def __init__(self, config: Config, data: Data, workers: int = 0) -> None:
        last = config.net in CHANNELS_LAST
        self.format = torch.channels_last if last else torch.contiguous_format
        self.net = network(config, data).to(memory_format=self.format)
        self.classes = len(data.labels)
        self.segments = config.net == "unet"
        self.criterion: Callable[[Tensor, Tensor], Tensor] = (
            nn.NLLLoss() if config.net == "lenet" else nn.CrossEntropyLoss()
        )
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        train, val = datasets(config, data)
        size = min(config.batch_size, len(train))  # type: ignore[arg-type]
        self.train = DataLoader(train, size, shuffle=True, drop_last=True, num_workers=workers)
        self.val = DataLoader(val, 4 * config.batch_size, num_workers=workers)
        self.images = size * len(self.train)

    def loss(self, scores: Tensor, y: Tensor) -> Tensor:
        loss = self.criterion(scores, y)
        return loss + dice_loss(scores, y) if self.segments else loss

    def __call__(self) -> dict[str, float]:
        """Train for an epoch, then judge the network by the held-out images."""
        self.net.train()
        train_loss = 0.0
        for x, y in self.train:
            loss = self.loss(self.net(x.contiguous(memory_format=self.format)), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            train_loss += loss.item()
        self.net.eval()
        val_loss, counts = 0.0, torch.zeros(self.classes, self.classes)
        with torch.no_grad():
            for x, y in self.val:
                scores = self.net(x)
                val_loss += self.loss(scores, y).item() * len(y)
                pairs = (y * self.classes + scores.argmax(1)).flatten()
                counts += torch.bincount(pairs, minlength=self.classes**2).view(self.classes, -1)
        right = counts.diagonal()
        figures = {"train_loss": train_loss / len(self.train), "val_loss": val_loss / len(self.val.dataset)}  # type: ignore[arg-type]
        if self.segments:
            return figures | {"val_iou": float((right / (counts.sum(0) + counts.sum(1) - right)).nanmean())}
        return figures | {"val_accuracy": float(right.sum() / counts.sum())}
