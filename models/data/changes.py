"""Random changes of images to train on, (C, H, W) from 0 to 1; how strong they are is a factor."""

from __future__ import annotations

from torchvision.transforms import v2


def changes(name: str | None, size: int, strength: float = 1.0) -> v2.Transform | None:
    """The changes of a set by its name, or of a folder of images without one.

    Handwriting and house numbers lean, and are not quite in the middle; clothes are mirrored; small photographs are shifted by
    up to an eighth, as 4 of 32 pixels, what comes in being reflected, and mirrored; of folders a part of an image is taken, in
    other proportions, and mirrored. Half of the images are mirrored, whatever the strength.

    Args:
        name: one of `DATASETS`, or None for a folder of images.
        size: height and width of what comes out, in pixels; of sets it is that of what goes in.
        strength: from 0 to 2, the factor of angles, shifts, scales, shears, of what crops leave out, and the exponent
            of their proportions; 0 is for no changes at all.
    """
    if not strength:
        return None
    if name is None:
        cropped = v2.RandomResizedCrop(
            size, scale=(1 - 0.4 * strength, 1.0), ratio=((3 / 4) ** strength, (4 / 3) ** strength), antialias=True
        )
        return v2.Compose([cropped, v2.RandomHorizontalFlip()])
    if name == "fashion-mnist":
        return v2.RandomHorizontalFlip()
    if name == "cifar10":
        shifted = v2.RandomCrop(size, padding=round(size * strength / 8), padding_mode="reflect")
        return v2.Compose([shifted, v2.RandomHorizontalFlip()])
    return v2.RandomAffine(
        degrees=12 * strength, translate=(0.08 * strength, 0.08 * strength),
        scale=(1 - 0.1 * strength, 1 + 0.1 * strength), shear=8 * strength,
        interpolation=v2.InterpolationMode.BILINEAR,
    )  # fmt: skip


__all__ = ["changes"]
