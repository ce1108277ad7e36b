"""What the checker asks of lesson 2, Sobel: cases, mistakes that it knows by name, hints."""

import torch
import torch.nn.functional as F

import torchops
from torchops import reference
from torchops.course.lesson import Case, Lesson, Mistake, Picture, Step


def spec_of_gx(x):
    """How fast x grows to the right, with zeros beyond the border."""
    return reference.spatial_gradient(x, normalized=False, padding_mode="zeros")[:, :, 0]


def mode(replicate):
    return "replicate" if replicate else "zeros"


def spec(x, replicate):
    """How fast x grows in the direction in which it grows fastest."""
    return reference.sobel(x, normalized=False, eps=0.0, padding_mode=mode(replicate))


def spot(h, w):
    """One bright pixel on black: what comes out is the filter itself."""
    x = torch.zeros(1, 1, h, w)
    x[0, 0, h // 2, w // 2] = 1
    return x


def edge(h, w):
    """Black on the left, white on the right."""
    return torch.full((1, 1, h, w), 10.0) * (torch.arange(w) >= w // 2)


def noise(*shape):
    return torch.randint(10, shape).float()


def problem(name, image, *more, block=None, why=""):
    return Case(name, lambda: (image(), *more), why, block)


def neighbours(x, first, replicate=False):
    """The nine pixels around one, in words."""
    n, c, h, w = first
    padded = reference.pad(x, (1, 1, 1, 1), mode(replicate))[n, c]
    rows = ["  ".join(f"{v:g}" for v in row[w : w + 3].tolist()) for row in padded[h : h + 3]]
    return "Around it, x holds\n" + "\n".join(f"    {row}" for row in rows)


def explain(inputs, first, got, want):
    x, replicate = (*inputs, False)[:2]
    bright = x.nonzero()
    if len(bright) == 1 and len(inputs) == 1:
        r, s = (int(bright[0, 2 + k]) - first[2 + k] for k in range(2))
        if abs(r) <= 1 and abs(s) <= 1:
            return f"The bright pixel is its neighbour ({r}, {s}): yours gives that the weight {got:g} instead of {want:g}."
        return "The bright pixel is no neighbour of it."
    return neighbours(x, first, replicate)


def arrows(x, replicate=False):
    return reference.spatial_gradient(x, normalized=False, padding_mode=mode(replicate)).unbind(2)


def filtered(x, weight, padding_mode="zeros"):
    """Every plane of x by a window of 3x3."""
    weight = torch.tensor(weight, dtype=x.dtype).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(reference.pad(x, (1, 1, 1, 1), padding_mode), weight, groups=x.shape[1])


EVEN = [[-1.0, 0.0, 1.0]] * 3
"""The weights of Prewitt's filter."""


def even(x, replicate=False):
    by_rows = torch.tensor(EVEN).T.tolist()
    return torch.hypot(filtered(x, EVEN, mode(replicate)), filtered(x, by_rows, mode(replicate)))


def run_on(x):
    """gx where a plane is taken for one long row: beside the end of a row lies the beginning of the next."""
    W = x.shape[3]
    plane = F.pad(x.flatten(2), (W + 1, W + 1))
    taps = [((r + 1) * W + s + 1, s * (2 - r * r)) for r in (-1, 0, 1) for s in (-1, 0, 1)]
    return sum(weight * plane[..., k : k + x[0, 0].numel()] for k, weight in taps).view_as(x)


def held_on_one_side(x, replicate=True):
    """The magnitude where the image goes on to the left and to the top, and ends on the right and at the bottom."""
    larger = F.pad(F.pad(x, (1, 0, 1, 0), "replicate"), (0, 1, 0, 1))
    return spec(larger, False)[..., 1:-1, 1:-1]


PREWITT = "All your weights are 1: that is Prewitt's filter. Sobel's counts the nearer neighbours twice."
STEPS = (
    Step(
        "1",
        "gx: how fast x grows to the right",
        8,
        "gradient",
        spec_of_gx,
        (
            problem(
                "a spot of light, 5x7",
                lambda: spot(5, 7),
                block=4,
                why="the picture of the page: what comes out are the weights",
            ),
            problem("3 rows of 5", lambda: noise(1, 1, 3, 5), why="a block that is longer than a row"),
            problem(
                "2x3 planes of 3x5", lambda: noise(2, 3, 3, 5), block=4, why="several planes, several programs a row"
            ),
            problem("one pixel", lambda: noise(1, 2, 1, 1) + 1, why="an image that is all border"),
        ),
        (
            Mistake(
                "run on",
                run_on,
                "Beside the end of a row yours reads the next row. Neighbours in memory need not be so in the image.",
            ),
            Mistake(
                "turned", lambda x: arrows(x)[1], "That is gy: yours grows downwards. r counts rows, s counts columns."
            ),
            Mistake(
                "flipped",
                lambda x: -arrows(x)[0],
                "Every sign is turned: right minus left, so that gx is positive where x grows.",
            ),
            Mistake("prewitt", lambda x: filtered(x, EVEN), PREWITT),
            Mistake(
                "replicate",
                lambda x: arrows(x, True)[0],
                "Yours repeats the border; step 1 has zeros there. That comes in step 3.",
            ),
        ),
        (
            "Four conditions say whether (h, w) is a pixel. Join them by &, each in parentheses: & binds closer than <.",
            "The weight is 0 where s = 0, and has the sign of s. Which factor is 2 for r = 0, and 1 for r = -1 and r = 1?",
            "2 - r * r is 2 for r = 0, else 1.",
        ),
        explain,
        far=lambda: (torch.empty(300, 8, 1000, 1000, device="meta"),),
        look=(Case("1080x1920", lambda: (torch.empty(1, 1, 1080, 1920),), block=512),),
        mirror=lambda x: torchops.spatial_gradient(x, normalized=False, padding_mode="zeros")[:, :, 0],
    ),
    Step(
        "2",
        "the magnitude",
        7,
        "sobel",
        spec,
        (
            problem(
                "an edge, 4x6",
                lambda: edge(4, 6),
                False,
                why="the right side is white: the sides of the image count as edges, too",
            ),
            problem(
                "2x3 planes of 3x5",
                lambda: noise(2, 3, 3, 5),
                False,
                block=4,
                why="several planes, several programs a row",
            ),
            problem("7 columns of 9", lambda: noise(1, 1, 9, 7), False, block=8),
        ),
        (
            Mistake(
                "no root",
                lambda x, replicate: spec(x, replicate) ** 2,
                "Yours is the square of the magnitude: the root is missing.",
            ),
            Mistake(
                "sum",
                lambda x, replicate: sum(g.abs() for g in arrows(x, replicate)),
                "Yours is |gx| + |gy|: a diagonal edge becomes 1.4 times as bright as it is.",
            ),
            Mistake(
                "gx",
                lambda x, replicate: arrows(x, replicate)[0].abs(),
                "That is gx alone: what grows downwards is lost. Do gx and gy have different weights?",
            ),
            Mistake(
                "gx twice",
                lambda x, replicate: arrows(x, replicate)[0].abs() * 2**0.5,
                "Your gx and gy have the same weights: turn those of gy, so that r and s change places.",
            ),
            Mistake("prewitt", even, PREWITT),
        ),
        (
            "gy is gx with rows and columns exchanged: where gx has s, it has r.",
            "Pythagoras: the length of (gx, gy). tl.sqrt takes a root.",
        ),
        explain,
        far=lambda: (torch.empty(300, 8, 1000, 1000, device="meta"), False),
        mirror=lambda x, replicate: torchops.sobel(x, normalized=False, eps=0.0, padding_mode=mode(replicate)),
    ),
    Step(
        "3",
        "a border that is no edge",
        5,
        "sobel",
        spec,
        (
            problem("an edge, 4x6", lambda: edge(4, 6), True, why="one edge, and no other"),
            problem(
                "2x3 planes of 3x5",
                lambda: noise(2, 3, 3, 5),
                True,
                block=4,
                why="several planes, several programs a row",
            ),
            problem(
                "one column of 3", lambda: noise(1, 1, 3, 1), True, why="left and right of it is the column itself"
            ),
            problem("2x3 planes of 3x5, with zeros", lambda: noise(2, 3, 3, 5), False, why="what was right remains so"),
        ),
        (
            Mistake(
                "zeros",
                lambda x, replicate: spec(x, False),
                "Beyond the border yours still reads 0: the frame of the image is an edge.",
            ),
            Mistake(
                "one side",
                held_on_one_side,
                "Left and top are held, right and bottom are not: the last row is H - 1, the last column W - 1.",
            ),
            Mistake(
                "reflect",
                lambda x, replicate: (
                    reference.sobel(x, False, 0.0, padding_mode="reflect") if min(x.shape[2:]) > 1 else x
                ),
                "Yours mirrors the image; the pixel beyond the border is to be the one at the border.",
            ),
            Mistake(
                "circular",
                lambda x, replicate: reference.sobel(x, False, 0.0, padding_mode="circular"),
                "Yours goes round: on the left of the image it reads its right side.",
            ),
        ),
        (
            "Row -1 is to be row 0, and row H is to be row H - 1. All others remain what they are.",
            "Lesson 1 held brightness between 0 and 255, with tl.minimum and tl.maximum. Hold the row between 0 and H - 1.",
        ),
        explain,
        far=lambda: (torch.empty(300, 8, 1000, 1000, device="meta"), True),
        look=(Case("1080x1920", lambda: (torch.empty(1, 1, 1080, 1920), True), block=512),),
        mirror=lambda x, replicate: torchops.sobel(x, normalized=False, eps=0.0, padding_mode=mode(replicate)),
    ),
)

PICTURES = (
    Picture(
        "sobel",
        "a program owns 4 pixels of a row, and looks at all their neighbours",
        "1",
        STEPS[0].cases[0].inputs,
        {"x_ptr": "x: pixels it loads"},
        {"gx_ptr": "gx: pixels it stores"},
        ((0, 0, 0), (2, 1, 0), (4, 0, 0)),
        block=4,
    ),
)

LESSON = Lesson("Sobel: your own edge detector", 20, True, ("kernels/sobel.py",), STEPS, PICTURES)
