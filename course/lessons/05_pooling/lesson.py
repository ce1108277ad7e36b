"""What the checker asks of lesson 5, pooling: cases, mistakes that it knows by name, hints."""

import torch

import torchops
from torchops import reference
from torchops.course.lesson import Case, Complaint, Lesson, Mistake, Picture, Step


def spec_max(x, kernel, stride):
    """The largest pixel of every window."""
    return reference.max_pool2d(x, kernel, stride)


def spec_tap(x, kernel, stride, padding):
    """The largest pixel of every window, and which it is: the first of the largest, counted row by row."""
    return reference.max_pool2d(x, kernel, stride, padding, return_indices="offset")


def spec_min(x, kernel, stride, padding):
    return reference.min_pool2d(x, kernel, stride, padding, return_indices="offset")


def spec_avg(x, kernel, stride, padding, count_padding):
    return reference.avg_pool2d(x, kernel, stride, padding, count_include_pad=count_padding)


def mirror_tap(x, kernel, stride, padding):
    return torchops.max_pool2d(x, kernel, stride, padding, return_indices="offset")


def mirror_min(x, kernel, stride, padding):
    return torchops.min_pool2d(x, kernel, stride, padding, return_indices="offset")


def mirror_avg(x, kernel, stride, padding, count_padding):
    return torchops.avg_pool2d(x, kernel, stride, padding, count_include_pad=count_padding)


def pictured():
    rows = [23, 31, 12, 10, 19, 28], [25, 17, 26, 32, 11, 20], [33, 14, 24, 18, 29, 30], [13, 27, 21, 16, 15, 22]
    return torch.tensor(rows).float()[None, None]


def shuffled(*shape):
    """..., -30, -10, 10, 30, ..., shuffled: a wrong value says which pixel it is, and no tap looks like one."""
    count = torch.Size(shape).numel()
    return (20.0 * (torch.randperm(count) - count // 2) + 10).view(shape)


def below(*shape):
    """..., -50, -30, -10, shuffled."""
    x = shuffled(*shape)
    return x - x.max() - 10


def few(*shape):
    """Many pixels that are equal."""
    return torch.randint(3, shape).float() - 1


def problem(shape, kernel, stride, *more, why, block=16, values=shuffled):
    words = "".join(f", {n}" for n in (f"stride {stride}", *(f"padding {p}" for p in more[:1])))
    counted = "".join(f", padding {'counts' if c else 'does not count'}" for c in more[1:])
    name = f"x {'x'.join(map(str, shape))}, windows of {kernel}x{kernel}{words}{counted}"
    return Case(name, lambda: (values(*shape), kernel, stride, *more), why, block)


def page(*more):
    return Case("the image of the page", lambda: (pictured(), 2, 2, *more), "the picture of the page", 16)


def explain(inputs, first, got, want):
    """Whose a wrong value is, or where a wrong tap points to."""
    x, kernel, stride, padding = (*inputs, 0)[:4]
    n, c, p, q = first
    window = f"window ({p}, {q})"
    if want < kernel * kernel and not (x == want).any():

        def held(tap):
            h, w = p * stride - padding + int(tap) // kernel, q * stride - padding + int(tap) % kernel
            inside = 0 <= h < x.shape[2] and 0 <= w < x.shape[3]
            return f"is {x[n, c, h, w]:g}" if inside else "lies outside the image"

        wins = f"tap {want:g} wins, which {held(want)}"
        if not 0 <= got < kernel * kernel:
            return f"In {window} {wins}; taps go from 0 to {kernel * kernel - 1}."
        return f"In {window} {wins}; tap {got:g} {held(got)}."
    places = (x == got).nonzero().tolist()
    if len(places) != 1:
        return ""
    i, j, h, w = places[0]
    if (i, j) != (n, c):
        return f"That is a pixel of plane {i * x.shape[1] + j}; this is plane {n * x.shape[1] + c}."
    r, s = h - p * stride + padding, w - q * stride + padding
    there = "in" if 0 <= r < kernel and 0 <= s < kernel else "outside"
    return f"That is pixel ({h}, {w}), which lies {there} {window}."


def from_zero(x, *numbers):
    return spec_max(x, *numbers).clamp(min=0)


def smaller(x, *numbers):
    return spec_max(x, *numbers) - torch.inf


def padded_by_zero(x, kernel, stride, padding):
    zeros = torch.nn.functional.pad(x, [padding] * 4)
    return spec_tap(zeros, kernel, stride, 0)


def last_of_equal(x, kernel, stride, padding):
    """Turned by 180 degrees, the last is the first; windows are taken where they were."""
    y, _ = spec_tap(x, kernel, stride, padding)
    padded = torch.nn.functional.pad(x, [padding] * 4, value=-torch.inf)
    windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(4)
    taps = torch.where(windows == y[..., None], torch.arange(kernel * kernel), -1)
    return y, taps.amax(-1).to(torch.uint8)


def turned(x, kernel, stride, padding):
    y, tap = spec_tap(x.transpose(2, 3), kernel, stride, padding)
    return y.transpose(2, 3), tap.transpose(2, 3)


def positions(x, kernel, stride, padding):
    y, position = reference.max_pool2d(x, kernel, stride, padding, return_indices=True)
    return y, position.to(torch.uint8)


def not_back(x, *numbers):
    y, tap = spec_min(x, *numbers)
    return -y, tap


def still_max(x, *numbers):
    return spec_tap(x, *numbers)


def negated_max(x, *numbers):
    y, tap = spec_tap(x, *numbers)
    return -y, tap


def counts(x, kernel, stride, padding, count_padding):
    return spec_avg(x, kernel, stride, padding, True)


def does_not_count(x, kernel, stride, padding, count_padding):
    return spec_avg(x, kernel, stride, padding, False)


def infinite(x, kernel, stride, padding, count_padding):
    """The mean of a window with padding, if that is -inf."""
    padded = torch.nn.functional.pad(x, [padding] * 4, value=-torch.inf)
    return spec_avg(padded, kernel, stride, 0, True)


def summed(x, kernel, stride, padding, count_padding):
    return spec_avg(x, kernel, stride, padding, True) * kernel * kernel


def by_a_kernel(launches, *inputs):
    """Step 3 has no kernel of its own, whose offsets could be looked at; that of step 2 has to run."""
    if not launches:
        raise Complaint("Right, but no kernel of yours has run: step 2's can do it, if it is given the right image")


def many():
    """70,000 planes, whose 2.4 * 10^9 pixels no int32 can count."""
    return torch.empty(70_000, 1, 180, 190, device="meta"), 2, 2


def many_padded():
    return *many(), 1


def many_means():
    return *many(), 1, False


MAX = Step(
    "1", "the largest of every window", 6, "max_pool", spec_max,
    (
        page(),
        problem((2, 3, 5, 8), 3, 1, why="windows that overlap, several planes, pixels below 0", values=below),
        problem((1, 2, 9, 11), 3, 2, why="windows that overlap, more of them than a block", block=8),
        problem((1, 1, 7, 9), 2, 3, why="a stride beyond the window: pixels that are in none", block=4),
        problem((2, 1, 3, 3), 3, 3, why="a single window a plane", block=4),
    ),
    (
        Mistake("zero", from_zero, "Yours never goes below 0: it begins with 0, which wins where all pixels are negative."),
        Mistake("smaller", smaller, "Yours keeps the smaller of both, which is the -inf that it began with."),
    ),
    (
        "The loop compares what it has with one pixel after another. What must it have before the "
        "first, so that any pixel wins?",
        "Taps are counted row by row: with KERNEL 3, taps 3, 4 and 5 are row 1. // and % give row and column.",
        "tl.maximum(a, b) takes two blocks, and gives the larger of each two.",
    ),
    explain, far=many, mirror=torchops.max_pool2d,
    look=(Case("64x112x112", lambda: (torch.empty(1, 64, 112, 112), 3, 2), block=256),),
)  # fmt: skip

TURNED = Mistake("turned", turned, "Your taps are counted column by column. Row by row, tap is r * KERNEL + s.")
ZERO = Mistake(
    "padded",
    padded_by_zero,
    "Yours lets the padding win, as 0. What lies outside is no pixel, and must lose against every one.",
)
WINNER = Step(
    "2", "which pixel has won, and padding", 7, "max_pool_tap", spec_tap,
    (
        page(0),
        problem((2, 3, 5, 8), 3, 2, 1, why="padding, several planes, pixels below 0", values=below),
        problem((1, 2, 6, 7), 3, 2, 1, why="pixels that are equal: the first of the largest wins", values=few),
        problem((1, 1, 5, 13), 3, 1, 1, why="as many windows as pixels, more than a block", block=8),
        problem((1, 2, 1, 6), 2, 2, 1, why="a single row, and windows with one pixel only", block=4),
    ),
    (
        ZERO, TURNED,
        Mistake("last", last_of_equal, "Of equal pixels, yours takes the last. The first wins: a later one must be larger."),
        Mistake("position", positions, "Yours tells where the pixel lies in the image. A tap is its number in the window."),
    ),
    (
        "`other=` of tl.load is what masked lanes get. It must lose against every pixel, also against -1000.",
        "`better` is a block of truths. Compare before `best` changes.",
        "tl.where(better, a, b) takes a where it is true, and b elsewhere: the new winner, or the old one.",
    ),
    explain, far=many_padded, mirror=mirror_tap,
    look=(Case("64x112x112", lambda: (torch.empty(1, 64, 112, 112), 3, 2, 1), block=256),),
)  # fmt: skip

MIN = Step(
    "3", "the smallest", 2, "min_pool_tap", spec_min,
    (
        page(0),
        problem((2, 2, 5, 7), 3, 2, 1, why="several planes, padding"),
        problem((1, 2, 6, 7), 3, 2, 1, why="pixels that are equal", values=few),
    ),
    (
        Mistake("max", still_max, "That is the largest. Which number is the smallest, once every sign is turned?"),
        Mistake(
            "negated", negated_max,
            "That is the largest with its sign turned. Turn the signs of x first, and that of the result back.",
        ),
        Mistake("back", not_back, "The right pixel, with the wrong sign: turn it back."),
    ),
    ("Which of 3, 7, 1 is the smallest? Which of -3, -7, -1 is the largest?",),
    explain, mirror=mirror_min, kernels=False, after=by_a_kernel,
)  # fmt: skip

AVG = Step(
    "4", "the mean", 5, "avg_pool", spec_avg,
    (
        page(0, True),
        problem((2, 3, 4, 7), 2, 1, 0, True, why="several planes, windows that overlap"),
        problem((1, 2, 5, 6), 2, 2, 1, True, why="padding that counts, as 0"),
        problem((1, 2, 5, 6), 2, 2, 1, False, why="padding that does not count", block=8),
        problem((2, 1, 6, 8), 4, 2, 2, False, why="corners with four pixels of sixteen", block=4),
    ),
    (
        Mistake(
            "counts", counts,
            "Yours divides by KERNEL * KERNEL always. Where padding does not count, divide by the pixels that there are.",
        ),
        Mistake(
            "does not", does_not_count,
            "Yours divides by the pixels of the image always. Where padding counts, it is KERNEL * KERNEL.",
        ),
        Mistake("infinite", infinite, "Yours adds -inf for what lies outside, and a sum with -inf in it stays -inf."),
        Mistake("sum", summed, "Yours is the sum: a mean is divided by how many there are."),
    ),
    (
        "Outside, -inf would make every sum -inf. What can be added without changing a sum?",
        "`inside` is true where a lane reads a pixel: add 1 there, and 0 elsewhere.",
        "`if COUNT_PADDING` is decided when the kernel is compiled, since COUNT_PADDING is a constexpr.",
    ),
    far=many_means, mirror=mirror_avg,
    look=(Case("64x112x112", lambda: (torch.empty(1, 64, 112, 112), 3, 2, 1, True), block=256),),
)  # fmt: skip

PICTURES = (
    Picture(
        "windows", "windows of 2x2, stride 2: a program owns one, and stores its largest pixel", "1",
        lambda: (pictured(), 2, 2), {"x_ptr": "x: pixels it loads"}, {"y_ptr": "y: what it stores"},
        ((0, 0, 0), (0, 1, 0), (0, 5, 0)), block=1,
    ),
    Picture(
        "taps", "windows of 3x3, stride 2, padding 1: they overlap, and begin outside", "2",
        lambda: (pictured(), 3, 2, 1), {"x_ptr": "x: pixels it loads"},
        {"y_ptr": "y: the largest", "tap_ptr": "tap: which it is"}, ((0, 0, 0), (0, 1, 0), (0, 5, 0)), block=1,
    ),
)  # fmt: skip

LESSON = Lesson(
    "Pooling: the largest, and which pixel it was", 20, True, ("kernels/max_pool2d.py", "kernels/avg_pool2d.py"),
    (MAX, WINNER, MIN, AVG), PICTURES,
)  # fmt: skip
