"""What an eye sees: how far colours are apart, in normal sight and without one of its three kinds of cones, and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.image import imread
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What is left of linear red, green and blue; Machado et al., IEEE TVCG 15, 2009, table 1, severity 1."""
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colours: object) -> np.ndarray:
    """sRGB from 0 to 255, (N, 3), to linear light from 0 to 1."""
    c = np.asarray(colours) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(colours: object, sight: object) -> np.ndarray:
    """sRGB from 0 to 255, (N, 3), to CIELAB as an eye of this sight has it."""
    t = (linear(colours) @ np.transpose(sight)).clip(0, 1) @ XYZ.T / WHITE
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def least_distance(colours: object, sight: object) -> float:
    """Between any two; 2.3 can just be seen."""
    points = lab(colours, sight)
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    return float(apart[~np.eye(len(points), dtype=bool)].min())


def contrast(colour: object, ground: object) -> float:
    """Of a text on a ground, as WCAG 2 has it; 4.5 is enough for any text."""
    light = sorted(float(linear([one])[0] @ XYZ[1]) for one in (colour, ground))
    return (light[1] + 0.05) / (light[0] + 0.05)


def assert_same_picture(committed: Path, drawn: Path) -> None:
    """Their texts, cells, lines and arrows are the same, and the pixels nearly so: another version of a font library moves
    squares by 0.07, while another colour of one cell moves one by 0.1, and an empty picture by 0.4."""
    assert PngImageFile(committed).text == PngImageFile(drawn).text
    assert (_coarse(committed) - _coarse(drawn)).abs().max() < 0.08


def _coarse(file: Path) -> Tensor:
    """The mean colours of squares of 20 x 20 pixels."""
    return F.avg_pool2d(torch.from_numpy(imread(file)[..., :3]).movedim(-1, 0), 20)
