"""Images without alpha: what is transparent shows a background."""

from __future__ import annotations

from PIL import Image


def opaque(image: Image.Image, background: str) -> Image.Image:
    """An image of 8 bits over a background, as L, RGB, or as it was if nothing is transparent.

    value * alpha + background * (1 - alpha), rounded to the nearest.
    """
    mixed = _with_alpha(image)
    if mixed is None:
        return image
    alpha = mixed.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image
    colour = mixed.convert("L" if mixed.mode == "LA" else "RGB")
    under = Image.new(colour.mode, colour.size, background)
    under.paste(colour, mask=alpha)
    return under


def _with_alpha(image: Image.Image) -> Image.Image | None:
    """An image as LA or RGBA; None if it has no alpha."""
    if image.mode in ("LA", "RGBA"):
        return image
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("1", "L") and "transparency" in image.info:
        return image.convert("L").convert("LA")
    return image.convert("RGBA") if image.has_transparency_data else None
