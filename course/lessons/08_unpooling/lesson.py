"""What the checker asks of lesson 8, unpooling: cases, mistakes that it knows by name, hints."""

import torch

import torchops
from torchops import reference
from torchops.course.lesson import Case, Lesson, Mistake, Picture, Step


def spec(x, tap, kernel, stride):
    """Every value to the pixel that its tap points to, zeros elsewhere; of several values the last window's."""
    return reference.max_unpool2d(x, tap, kernel, stride)


def problem(n, c, p, q, kernel, stride, why="", block=None, sign=1):
    """x counts the windows, so that a wrong pixel says whose value it holds; downwards, if the sign is -1."""

    def inputs():
        x = sign * torch.arange(1, n * c * p * q + 1, dtype=torch.float32).view(n, c, p, q)
        tap = torch.randint(kernel * kernel, (n, c, p, q)).to(torch.uint8)
        return x, tap, kernel, stride

    return Case(f"{p}x{q} windows of {kernel}x{kernel}, stride {stride}", inputs, why, block)


def explain(inputs, first, got, want):
    x = inputs[0]
    C, P, Q = x.shape[1:]
    here = first[0] * C + first[1]

    def whose(v):
        if v == 0:
            return "nobody's"
        i = int(abs(v)) - 1
        if not 0 <= i < x.numel() or v != x.flatten()[i]:
            return "no window's"
        plane, k = divmod(i, P * Q)
        return f"window ({k // Q}, {k % Q})'s" + ("" if plane == here else f" of plane {plane}")

    return f"That is {whose(got)} value; the pixel is {whose(want)}."


def _positions(x, tap, kernel, stride):
    P, Q = x.shape[2:]
    H, W = (P - 1) * stride + kernel, (Q - 1) * stride + kernel
    p, q = torch.arange(P)[:, None], torch.arange(Q)
    t = tap.long()
    return (p * stride + t // kernel) * W + q * stride + t % kernel, H, W


def first_wins(x, tap, kernel, stride):
    pos, H, W = _positions(x, tap, kernel, stride)
    y = x.new_zeros(*x.shape[:2], H * W)
    return y.scatter_(2, pos.flatten(2).flip(2), x.flatten(2).flip(2)).unflatten(2, (H, W))


def summed(x, tap, kernel, stride):
    pos, H, W = _positions(x, tap, kernel, stride)
    return x.new_zeros(*x.shape[:2], H * W).scatter_add_(2, pos.flatten(2), x.flatten(2)).unflatten(2, (H, W))


def turned(x, tap, kernel, stride):
    return spec(x, tap % kernel * kernel + tap // kernel, kernel, stride)


def one_window(x, tap, kernel, stride):
    inside = (tap // kernel < stride) & (tap % kernel < stride)
    return spec(torch.where(inside, x, 0), torch.where(inside, tap, 0), kernel, stride)


def largest(x, tap, kernel, stride):
    pos, H, W = _positions(x, tap, kernel, stride)
    y = x.new_zeros(*x.shape[:2], H * W)
    return y.scatter_reduce_(2, pos.flatten(2), x.flatten(2), "amax").unflatten(2, (H, W))


def nowhere(x, tap, kernel, stride):
    """A window that does not exist has tap 0 and value 0, as a load leaves them."""
    y = spec(x, tap, kernel, stride)
    h, w = torch.arange(y.shape[2])[:, None], torch.arange(y.shape[3])
    beyond = (h // stride >= x.shape[2]) | (w // stride >= x.shape[3])
    return torch.where(beyond & (h % stride == 0) & (w % stride == 0), 0, y)


def overlap():
    """Two windows of one row, the last of a program and the first of the next, point to one pixel."""
    x = torch.arange(1.0, 33.0).view(1, 1, 1, 32)
    tap = torch.zeros(1, 1, 1, 32, dtype=torch.uint8)
    tap[..., 15] = 2
    return x, tap, 3, 2


def pictured():
    x = torch.arange(1.0, 7.0).view(1, 1, 2, 3)
    return x, torch.tensor([[[[0, 8, 6], [2, 0, 3]]]], dtype=torch.uint8), 3, 2


def many():
    """70,000 planes, whose 2.4 * 10^9 windows no int32 can count."""
    x = torch.empty(70_000, 1, 180, 190, device="meta")
    return x, torch.empty(x.shape, dtype=torch.uint8, device="meta"), 2, 2


def earnest():
    """What the last level of a U-Net unpools: rows of 512 pixels, four for each of a program's threads."""
    x = torch.empty(8, 16, 256, 256)
    return x, torch.empty(x.shape, dtype=torch.uint8), 2, 2


LOOK = (Case("8x16x256x256 windows of 2x2, stride 2", earnest, block=512),)
TURNED = Mistake("turned", turned, "Your taps are turned: a tap is r * KERNEL + s, row first.")
FIRST = Mistake(
    "first",
    first_wins,
    "Where windows overlap, yours keeps the first one's value. Later windows come later in your loop.",
)
SUM = Mistake(
    "sum", summed, "Yours adds up what points to a pixel. That is the gradient of pooling; unpooling keeps the last."
)
LARGEST = Mistake(
    "largest",
    largest,
    "Yours keeps the largest of what points to a pixel. The last window's value stays, large or small.",
)
NOWHERE = Mistake(
    "nowhere", nowhere,
    "Lanes whose window does not exist have loaded nothing: `other` gave them tap 0 and the value 0, and yours keeps these.",
)  # fmt: skip
ONE = Mistake("one", one_window, "Yours looks at one window a pixel. Up to OVER * OVER lie over it.")

SCATTER = Step(
    "1", "scatter: a program owns windows", 10, "unpool_scatter", spec,
    (
        problem(1, 1, 2, 2, 2, 2, "the picture of the page"),
        problem(2, 3, 3, 7, 2, 2, "several planes, rows and columns that differ"),
        problem(1, 2, 5, 9, 2, 2, "more windows than a block", block=8),
        problem(1, 1, 3, 4, 2, 3, "a stride beyond the window: pixels that are nobody's"),
        problem(1, 2, 1, 1, 3, 3, "a single window a plane", block=4),
    ),
    (TURNED,),
    (
        "k counts all windows of a plane. How many are there?",
        "Window (p, q) begins at pixel (p * STRIDE, q * STRIDE). A tap counts the pixels of a window row by row.",
        "Most pixels get no value. What must be there before the kernel runs?",
    ),
    explain, far=many, mirror=torchops.max_unpool2d, look=LOOK,
)  # fmt: skip

EXPERIMENT = Step(
    "2", "experiment: windows that overlap", 5, "unpool_scatter", spec,
    (Case("1x32 windows of 3x3, stride 2", overlap, "windows that overlap"),), expect="race",
    seen="Your kernel is right for windows that do not overlap, and cannot be right here: on to step 3.",
)  # fmt: skip

GATHER = Step(
    "3", "gather: a program owns pixels", 20, "unpool", spec,
    (
        problem(1, 1, 2, 2, 2, 2, "the picture of the page"),
        problem(1, 1, 2, 3, 3, 2, "windows that overlap: the last one's value stays"),
        problem(1, 2, 1, 1, 3, 2, "a single window a plane", block=32),
        problem(2, 3, 3, 7, 3, 2, "several planes, rows and columns that differ"),
        problem(1, 1, 3, 5, 3, 2, "values below 0, the last the smallest: it stays all the same", sign=-1),
        problem(1, 1, 3, 20, 3, 1, "nine windows over a pixel, several programs a row", block=8),
        problem(1, 1, 3, 4, 2, 3, "a stride beyond the window: pixels that are nobody's"),
    ),
    (TURNED, FIRST, SUM, LARGEST, NOWHERE, ONE),
    (
        "Which windows lie over pixel h? Draw rows 0 to 6 with KERNEL 3 and STRIDE 2.",
        "Some of the windows that the loop goes through do not exist: p or q below 0, or beyond P or Q. "
        "And r or s may lie outside the window.",
        "What does a lane that loads nothing know of its tap? tl.where(condition, x, y) has to ask `over` as well as the tap.",
        "A pixel that no window points to keeps the 0 that y began with: so the store's mask asks for the image only.",
    ),
    explain, far=many, mirror=torchops.max_unpool2d, look=LOOK,
)  # fmt: skip

PICTURES = (
    Picture(
        "scatter", "scatter: a program owns a window, and stores one pixel", "2", pictured,
        {"x_ptr": "x: windows it loads"}, {"y_ptr": "y: pixels it stores"},
        ((0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 4, 0)), block=1,
    ),
    Picture(
        "gather", "gather: a program owns a row of pixels, and looks at the windows over it", "3", pictured,
        {"x_ptr": "x: windows it loads"}, {"y_ptr": "y: pixels it stores"}, ((0, 0, 0), (2, 0, 0), (4, 0, 0)), block=8,
    ),
)  # fmt: skip

LESSON = Lesson(
    "Unpooling: who writes this pixel?", 35, True, ("kernels/max_unpool2d.py",), (SCATTER, EXPERIMENT, GATHER), PICTURES
)
