"""Other people's Sobel: what ours is checked and timed against, where it is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from torchops import functional


def aten_sobel(x: Tensor) -> Tensor:
    """The formula as most people write it: pad, convolve, take the magnitude."""
    kernel = x.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    weight = torch.stack((kernel, kernel.T)).unsqueeze(1)
    n, c, h, w = x.shape
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    g = F.conv2d(padded.reshape(n * c, 1, h + 2, w + 2), weight).reshape(n, c, 2, h, w)
    return (g.square().sum(2) + 1e-6).sqrt()


def opencv_sobel(x: Tensor) -> Tensor:
    """Two Sobel filters and a magnitude, plane by plane. It knows no eps."""
    import cv2

    out = []
    for plane in x.flatten(0, 1).numpy():
        gx, gy = (
            cv2.Sobel(plane, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=0.125, borderType=cv2.BORDER_REPLICATE)
            for dx in (1, 0)
        )
        out.append(torch.from_numpy(cv2.magnitude(gx, gy)))
    return out[0].view(x.shape) if len(out) == 1 else torch.stack(out).view(x.shape)


def kornia_sobel(x: Tensor) -> Tensor:
    import kornia

    return kornia.filters.sobel(x)


def skimage_sobel(x: Tensor) -> Tensor:
    """The same but for a factor, plane by plane, in NumPy. It knows no eps."""
    from skimage.filters import sobel

    planes = [torch.from_numpy(sobel(plane)) for plane in x.float().flatten(0, 1).numpy()]
    return torch.stack(planes).view(x.shape).mul_(0.5**0.5)


def sobel_providers(x: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """The implementations that take x, by name; torchops first."""
    providers: dict[str, Callable[[Tensor], Tensor]] = {"torchops": functional.sobel}
    if x.dtype == torch.uint8:  # convolutions need floats, so this converts as a user would
        providers["aten"] = lambda t: aten_sobel(t.float())
    else:
        providers["aten"] = aten_sobel
    if find_spec("kornia"):
        providers["kornia"] = kornia_sobel if x.is_floating_point() else lambda t: kornia_sobel(t.float())
    if find_spec("cv2") and not x.is_cuda and x.dtype in (torch.uint8, torch.float32) and not x.requires_grad:
        providers["opencv"] = opencv_sobel
    if find_spec("skimage") and not x.is_cuda and not x.requires_grad:
        providers["scikit-image"] = skimage_sobel
    return providers


@contextlib.contextmanager
def threads(count: int):  # type: ignore[no-untyped-def]
    """Run torch, and OpenCV where it is installed, on so many threads."""
    before = torch.get_num_threads()
    setters: list[Callable[[int], None]] = [torch.set_num_threads]
    if find_spec("cv2"):
        import cv2

        setters.append(cv2.setNumThreads)
    for setter in setters:
        setter(count)
    try:
        yield
    finally:
        for setter in setters:
            setter(before)
