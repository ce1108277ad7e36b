"""Denoising diffusion: a U-Net learns to tell image from noise, and draws images out of pure noise, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .arguments import check_whole
from .unet import UNet


class Diffusion(nn.Module):
    """What is image and what is noise at a time, predicted; and samples drawn with it.

    At time t, from 0 to `steps` - 1, an image is x_t = signal[t] x + noise[t] e, with e of a standard normal distribution and
    signal^2 + noise^2 = 1; the signal falls off as a cosine, to nothing. The network is given x_t and t, and trained to say
    the velocity v = signal[t] e - noise[t] x, from which follow x = signal[t] x_t - noise[t] v and
    e = noise[t] x_t + signal[t] v. To say e alone is of no use where x_t is all noise: x would be its error over `signal`.

    Args:
        channels: of the images, whose values lie between -1 and 1.
        size: height and width of the samples that are drawn.
        steps: times in all.
        width, depth, unpool: of the :class:`UNet`.
        embedding: features that stand for the time.
        **layers: classes of layers, as the :class:`UNet` takes them.

    Shape:
        x_t (N, channels, H, W) and t (N,), int64, to the velocity (N, channels, H, W).

    Raises:
        TypeError: if a number is no whole one.
        ValueError: if one is too small or too large; when it is called, as the :class:`UNet`.

    Source: J. Ho, A. Jain, P. Abbeel, Denoising Diffusion Probabilistic Models, NeurIPS 2020; the cosine: A. Nichol, P.
        Dhariwal, Improved DDPM, ICML 2021; the velocity: T. Salimans, J. Ho, Progressive Distillation, ICLR 2022; fewer
        steps: J. Song, C. Meng, S. Ermon, DDIM, ICLR 2021.

    >>> import torch
    >>> from torchops.models import Diffusion
    >>> diffusion = Diffusion(size=8, width=8, depth=1, steps=10)
    >>> diffusion.sample(4, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([4, 1, 8, 8])
    """

    signal: Tensor
    noise: Tensor

    def __init__(
        self,
        channels: int = 1,
        size: int = 8,
        *,
        steps: int = 500,
        width: int = 32,
        depth: int = 2,
        unpool: str = "avg",
        embedding: int = 128,
        **layers: Any,
    ) -> None:
        super().__init__()
        check_whole(size=size, width=width)
        check_whole(2, steps=steps, embedding=embedding)
        if embedding % 2:
            raise ValueError(f"`embedding` must be even, a sine and a cosine for every frequency, got {embedding}")
        if width % 8:
            raise ValueError(f"`width` must be a multiple of 8, the groups of the norm, got {width}")
        self.channels, self.size, self.steps, self.frequencies = channels, size, steps, embedding // 2
        self.embedding = nn.Sequential(
            nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.unet = UNet(
            channels, channels, width=width, depth=depth, unpool=unpool, embedding=embedding,
            norm=partial(nn.GroupNorm, 8), activation=nn.SiLU, **layers,
        )  # fmt: skip
        # this is the cosine of Nichol and Dhariwal, which spares the first steps
        angle = (torch.arange(1, steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2
        signal = (angle.cos() / math.cos(0.008 / 1.008 * math.pi / 2)).clamp(min=0)
        self.register_buffer("signal", signal.float())
        self.register_buffer("noise", (1 - signal**2).sqrt().float())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if not isinstance(t, torch.fx.Proxy) and t.dim() != 1:
            raise ValueError(f"`t` must be (N,), got {tuple(t.shape)}")
        half = self.frequencies
        frequencies = torch.exp(torch.arange(half, device=t.device) * (-math.log(1e4) / half))
        phases = t[:, None] * (1000 / self.steps) * frequencies
        return self.unet(x, self.embedding(torch.cat((phases.sin(), phases.cos()), dim=1)))

    def diffuse(self, x: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and the velocity at the times t: (N, C, H, W), (N,) and noise (N, C, H, W) to two of (N, C, H, W)."""
        signal, scale = (table[t].view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        return signal * x + scale * noise, signal * noise - scale * x

    def sample(
        self, count: int | None = None, *, steps: int | None = None, eta: float = 1.0,
        generator: torch.Generator | None = None, seeds: Sequence[int] | None = None,
    ) -> Tensor:  # fmt: skip
        """Draw images from noise.

        Args:
            count: how many; as many as there are `seeds` by default.
            steps: evaluations of the network, at most `self.steps`; all by default.
            eta: from 0 to 1: 1.0 adds fresh noise in every step, as DDPM; 0.0 none, as DDIM, which is good in fewer steps.
            generator: of the noise, on the CPU, so that the same one draws the same images on every device.
            seeds: one for every image, instead of a `generator`: from 0 to 2^63 - 1. All noise of an image comes of its own
                seed, so that the same seed draws the same image, whatever is drawn beside it.

        Returns:
            Values from -1 to 1, (count, channels, size, size).

        Raises:
            TypeError: if a seed is no whole number, or there is neither `count` nor `seeds`.
            ValueError: if `steps` is not within 1 and `self.steps`, `eta` not within 0 and 1, a seed not within its bounds, or
                `seeds` are none, not `count`, or beside a `generator`.
        """
        for x in self.denoise(count, steps=steps, eta=eta, generator=generator, seeds=seeds):  # noqa: B007
            pass
        return x

    @torch.no_grad()
    def denoise(
        self, count: int | None = None, *, steps: int | None = None, eta: float = 1.0,
        generator: torch.Generator | None = None, seeds: Sequence[int] | None = None,
    ) -> Iterator[Tensor]:  # fmt: skip
        """What :meth:`sample` draws, as it appears: what the network takes the images for, step by step."""
        steps = self.steps if steps is None else steps
        if not 1 <= steps <= self.steps:
            raise ValueError(f"`steps` must lie within 1 and {self.steps}, got {steps}")
        if not 0 <= eta <= 1:
            raise ValueError(f"`eta` must lie within 0 and 1, got {eta}")
        count = _count(count, generator, seeds)
        normal = _noise((count, self.channels, self.size, self.size), generator, seeds)
        device = self.signal.device
        times = torch.linspace(self.steps - 1, 0, steps).round().long().tolist()
        x = normal().to(device)
        for now, then in zip(times, [*times[1:], None], strict=True):
            v = self(x, torch.full((count,), now, device=device))
            image = (self.signal[now] * x - self.noise[now] * v).clamp(-1, 1)
            yield image
            if then is None:
                return
            # this is the noise that goes with the clipped image
            e = (x - self.signal[now] * image) / self.noise[now]
            ratio = self.signal[now] / self.signal[then]
            fresh = eta * self.noise[then] / self.noise[now] * (1 - ratio**2).clamp(min=0).sqrt()
            kept = (self.noise[then] ** 2 - fresh**2).clamp(min=0).sqrt()
            x = self.signal[then] * image + kept * e
            if eta > 0:
                x = x + fresh * normal().to(device)


def _count(count: int | None, generator: torch.Generator | None, seeds: Sequence[int] | None) -> int:
    """How many images are asked for; an error if the arguments contradict each other."""
    if seeds is None:
        if count is None:
            raise TypeError("`count` or `seeds` must say how many images are drawn")
        check_whole(count=count)
        return count
    if generator is not None:
        raise ValueError("`seeds` must not stand beside a `generator`: the noise comes of one or the other")
    if not len(seeds):
        raise ValueError("`seeds` must be one at least, got none")
    if count not in (None, len(seeds)):
        raise ValueError(f"`seeds` must be one for every image, got {len(seeds)} for {count}")
    for seed in seeds:
        check_whole(0, 2**63 - 1, seeds=seed)
    return len(seeds)


def _noise(
    shape: tuple[int, ...], generator: torch.Generator | None, seeds: Sequence[int] | None
) -> Callable[[], Tensor]:
    """What draws noise (N, C, H, W) on the CPU, new in every call: of one generator, or each image's of its own."""
    if seeds is None:
        return lambda: torch.randn(shape, generator=generator)
    own = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    return lambda: torch.stack([torch.randn(shape[1:], generator=each) for each in own])
