"""What the checker asks of lesson 1, pixels: cases, mistakes that it knows by name, hints."""

import torch

import torchops
from torchops import reference
from torchops.course.lesson import Case, Lesson, Mistake, Picture, Step


def brightened(conv2d, x, gain, offset):
    """gain * x + offset, as a convolution whose window is one pixel, with the offset for its bias."""
    y = conv2d(x.reshape(1, 1, 1, -1), x.new_full((1, 1, 1, 1), gain), x.new_full((1,), offset))
    return y.view(x.shape)


def spec(x, gain, offset):
    """Every pixel times gain, plus offset."""
    return brightened(reference.conv2d, x, gain, offset)


def spec_of_bytes(x, gain, offset):
    """The same from bytes to bytes: what is below 0 or above 255 becomes 0 or 255, and fractions are cut off."""
    return spec(x.double(), gain, offset).clamp(0, 255).to(torch.uint8)


def problem(*shape, gain=2.0, offset=100.0, block=None, why=""):
    """x counts its pixels from 1, so that a wrong pixel says whose value it holds."""

    def inputs():
        return torch.arange(1.0, torch.Size(shape).numel() + 1).view(shape), gain, offset

    size = "x".join(map(str, shape))
    return Case(f"{size} pixels" + ("" if block is None else f", {block} a program"), inputs, why, block)


def explain(inputs, first, got, want):
    x, gain, offset = inputs
    i = (got - offset) / gain - 1
    if i != int(i) or not 0 <= i < x.numel():
        return f"The pixel is {x[first]:g}, and {gain:g} * {x[first]:g} + {offset:g} = {want:g}."
    place = tuple(int(k) for k in torch.unravel_index(torch.tensor(int(i)), x.shape))
    return f"That is what becomes of pixel {place}."


PHOTO = torch.arange(1, 9 * 13 + 1).mul(2).to(torch.uint8).view(9, 13)
"""Pixel (h, w) is twice the number of it, counted from 1; views of it are what step 3 is given."""


def view(name, cut, gain=1.5, offset=-40.0, block=None, why=""):
    return Case(name, lambda: (cut(PHOTO.clone()), gain, offset), why, block)


def explain_view(inputs, first, got, want):
    x, gain, offset = inputs
    value = int(x[first])
    text = f"The pixel is {value}: {gain:g} * {value} {'-' if offset < 0 else '+'} {abs(offset):g} = {gain * value + offset:g}."
    others = [k for k in range(PHOTO.numel()) if spec_of_bytes(PHOTO.flatten()[k : k + 1], gain, offset).item() == got]
    if 0 < got < 255 and others:
        mine, yours = divmod(value // 2 - 1, 13), divmod(others[0], 13)
        text += f" It is {mine} of the photo; yours is what becomes of {yours}."
    return text


def as_if_contiguous(x, gain, offset):
    i = int(x[0, 0]) // 2 - 1 + torch.arange(x.numel())
    return spec_of_bytes(PHOTO.flatten()[i.clamp(max=PHOTO.numel() - 1)].view(x.shape), gain, offset)


def wrapped(x, gain, offset):
    """A byte keeps the last eight bits of what it is given."""
    return spec(x.double(), gain, offset).to(torch.int64).remainder(256).to(torch.uint8)


STEPS = (
    Step(
        "1",
        "a program owns BLOCK pixels",
        7,
        "brighten",
        spec,
        (
            problem(3, 5, block=4, why="the picture of the page"),
            problem(1, 1, block=4, why="a photo of one pixel"),
            problem(
                4,
                8,
                block=16,
                why="a number of pixels that is a multiple of BLOCK: no program is too many, none missing",
            ),
            problem(2, 7, 9, gain=-1.0, offset=255.0, why="two photos, as negatives"),
        ),
        (
            Mistake("gain", lambda x, gain, offset: x + offset, "Yours adds the offset, and leaves the gain out."),
            Mistake("offset", lambda x, gain, offset: gain * x, "Yours has no offset."),
            Mistake(
                "sum first",
                lambda x, gain, offset: gain * (x + offset),
                "Yours multiplies the offset, too: it comes last.",
            ),
        ),
        (
            "Program 0 owns pixels 0 ... BLOCK - 1. Which is the first pixel of program 1? Of program tl.program_id(0)?",
            "tl.arange(0, BLOCK) is the block 0, 1, ..., BLOCK - 1. Added to a number, it begins there.",
            "15 pixels, 4 a program: 3 programs are too few. triton.cdiv(a, b) divides and rounds up.",
        ),
        explain,
        mirror=lambda x, gain, offset: brightened(torchops.conv2d, x, gain, offset),
        look=(Case("3x1080x1920", lambda: (torch.empty(3, 1080, 1920), 2.0, 100.0), block=1024),),
    ),
    Step(
        "2",
        "more than 2^31 pixels",
        3,
        "brighten",
        spec,
        (problem(3, 5, block=4, why="what was right remains so"),),
        hints=(
            "tl.program_id(0) is an int32, which ends at 2^31 - 1. Times BLOCK it is an int32 again.",
            "Make it an int64 before it is multiplied: tl.program_id(0).to(tl.int64).",
        ),
        explain=explain,
        far=lambda: (torch.empty(3, 40000, 20000, device="meta"), 2.0, 100.0),
    ),
    Step(
        "3",
        "a view, and bytes",
        5,
        "contrast",
        spec_of_bytes,
        (
            view("the whole photo", lambda photo: photo, gain=1.0, offset=10.0),
            view("photo[2:7, 3:10]", lambda photo: photo[2:7, 3:10], why="a view: rows lie 13 elements apart, not 7"),
            view("photo.T", lambda photo: photo.T, block=4, why="a view: rows and columns have changed places"),
            view("photo[::2, 1::3]", lambda photo: photo[::2, 1::3], why="a view: columns lie apart, too"),
            view(
                "one row",
                lambda photo: photo[4:5],
                gain=4.0,
                offset=-300.0,
                block=16,
                why="a contrast so strong that both ends are cut",
            ),
        ),
        (
            Mistake(
                "rows",
                as_if_contiguous,
                "Yours reads pixels one behind the other. In a view they are not: rows lie x_sh elements apart, columns x_sw.",
            ),
            Mistake(
                "wrapped",
                wrapped,
                "Yours is not held between 0 and 255. A byte ends there: what becomes of more is chance, here the rest by 256.",
            ),
            Mistake(
                "low",
                lambda x, gain, offset: (
                    spec(x.double(), gain, offset).clamp(max=255).to(torch.int64).remainder(256).to(torch.uint8)
                ),
                "Yours lets values below 0 through; as bytes they become bright.",
            ),
        ),
        (
            "In elements: a step down is x_sh of them, a step to the right is x_sw. How far is it to pixel (h, w)?",
            "tl.maximum(a, 0) is a, or 0 where a is less. tl.minimum(a, 255) is a, or 255 where it is more.",
        ),
        explain_view,
        far=lambda: (torch.empty(60000, 50000, dtype=torch.uint8, device="meta")[1:, ::2], 1.5, -40.0),
        look=(
            Case("1080x1920", lambda: (torch.empty(1080, 1920, dtype=torch.uint8), 1.5, -40.0), block=1024),
            Case("transposed", lambda: (torch.empty(1920, 1080, dtype=torch.uint8).T, 1.5, -40.0), block=1024),
        ),
        mirror=lambda x, gain, offset: (
            brightened(torchops.conv2d, x.float(), gain, offset).clamp(0, 255).to(torch.uint8)
        ),
    ),
)

PICTURES = (
    Picture(
        "pixels",
        "four programs own 15 pixels, 4 each",
        "1",
        STEPS[0].cases[0].inputs,
        {"x_ptr": "x: pixels it loads"},
        {"y_ptr": "y: pixels it stores"},
        ((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)),
        block=4,
    ),
)

LESSON = Lesson("Pixels: an image is a matrix", 15, True, ("kernels/conv2d/flat.py",), STEPS, PICTURES)
