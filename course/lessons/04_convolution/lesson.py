"""What the checker asks of lesson 4, convolution: cases, mistakes that it knows by name, hints."""

import torch

from torchops import reference
from torchops.course import mirrors
from torchops.course.lesson import Case, Complaint, Lesson, Mistake, Picture, Step


def spec(x, weight, bias, stride, padding, dilation):
    """Every pixel is a sum over the channels and the taps of its filter, and the filter's bias."""
    return reference.conv2d(x, weight, bias, stride, padding, dilation)


def one(x, weight, stride=1, dilation=1):
    """The same of one image and one filter."""
    return reference.conv2d(x[None, None], weight[None, None], None, stride, 0, dilation)[0, 0]


def mirror_one(x, weight, stride=1, dilation=1):
    return mirrors.direct(x[None, None], weight[None, None], stride, dilation)[0, 0]


def mirror_batch(x, weight, bias, stride, padding, dilation):
    return mirrors.plain(x, weight, bias, stride, padding, dilation)


def counted(*shape):
    """1, 2, 3, ...: a wrong sum says what it is a sum of."""
    return torch.arange(1.0, torch.Size(shape).numel() + 1).view(shape)


def by_hand():
    """The image of the page, of zeros and ones, and its filter."""
    x = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]])
    return x.float(), torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])


def single(h, w, r, s, *numbers, why, block=16):
    """One image, one filter; numbers are its stride and dilation."""
    words = "".join(f", {name} {n}" for name, n in zip(("stride", "dilation"), numbers, strict=False))
    return Case(f"{h}x{w} image, {r}x{s} filter{words}", lambda: (counted(h, w), counted(r, s), *numbers), why, block)


def batch(n, c, h, w, k, r, s, stride, padding, dilation, why, block=16):
    def inputs():
        weight, bias = counted(k, c, r, s) % 5 + 1, 1000.0 * torch.arange(1, k + 1)
        return counted(n, c, h, w), weight, bias, stride, padding, dilation

    filters = f"{k} filter{'s' * (k > 1)} of {r}x{s}"
    name = f"x {n}x{c}x{h}x{w}, {filters}, stride {stride}, padding {padding}, dilation {dilation}"
    return Case(name, inputs, why, block)


def explain(inputs, first, got, want):
    """Which other pixel a wrong sum belongs to, or which part of the sum it lacks."""
    x, weight, *more = (v.double() if isinstance(v, torch.Tensor) else v for v in inputs)
    alone = x.dim() == 2
    if alone:
        stride, dilation = more or (1, 1)
        x, weight, bias, padding, first = x[None, None], weight[None, None], None, 0, (0, 0, *first)
    else:
        bias, stride, padding, dilation = more
    elsewhere = (spec(x, weight, bias, stride, padding, dilation) == got).nonzero().tolist()
    if len(elsewhere) == 1:
        n, k, p, q = elsewhere[0]
        return f"That belongs to pixel ({p}, {q})" + ("." if alone else f" of channel {k} of image {n}.")
    n, k, p, q = first
    windows = torch.nn.functional.unfold(x[n : n + 1], weight.shape[2:], dilation, padding, stride)[0]
    width = (x.shape[3] + 2 * padding - dilation * (weight.shape[3] - 1) - 1) // stride + 1
    summands = windows[:, p * width + q].view(weight.shape[1:]) * weight[k]
    parts = {f"row {r} of the filter": summands[:, r] for r in range(weight.shape[2])}
    parts |= {f"column {s} of the filter": summands[:, :, s] for s in range(weight.shape[3])}
    parts |= {f"channel {c}": summands[c] for c in range(weight.shape[1])}
    lacks = [name for name, part in parts.items() if part.sum() == want - got]
    return f"It lacks what {lacks[0]} adds." if len(lacks) == 1 else ""


def turned(x, weight, *numbers):
    return one(x, weight.flip(0, 1), *numbers)


def reading(place):
    """A mistake in h and w: what is summed if tap (r, s) of pixel (p, q) is read at place(p, q, r, s, stride, dilation)."""

    def formula(x, weight, stride=1, dilation=1):
        p, q, r, s = torch.meshgrid(
            *map(torch.arange, (*one(x, weight, stride, dilation).shape, *weight.shape)), indexing="ij"
        )
        h, w = place(p, q, r, s, stride, dilation)
        # a column beyond the last is one of the next row
        return (x.flatten()[(h * x.shape[1] + w) % x.numel()] * weight).sum((2, 3))

    return formula


def unweighted(x, weight, *numbers):
    return one(x, torch.ones_like(weight), *numbers)


def last_tap(x, weight, *numbers):
    only = torch.zeros_like(weight)
    only[-1, -1] = weight[-1, -1]
    return one(x, only, *numbers)


def first_channel(x, weight, *more):
    return spec(x[:, :1].expand_as(x), weight, *more)


def first_of_filter(x, weight, *more):
    return spec(x, weight[:, :1].expand_as(weight), *more)


def one_filter(x, weight, *more):
    return spec(x, weight[:1].expand_as(weight), *more)


def one_image(x, weight, *more):
    return spec(x[:1].expand_as(x), weight, *more)


def biases(x, weight, bias, *more):
    return spec(x, weight, bias * x.shape[1], *more)


def no_bias(x, weight, bias, *more):
    return spec(x, weight, bias * 0, *more)


def clamped(x, weight, bias, stride, padding, dilation):
    return reference.conv2d(x, weight, bias, stride, padding, dilation, padding_mode="replicate")


def large():
    """An image of 2.5 * 10^9 pixels."""
    return torch.empty(50_000, 50_000, device="meta"), torch.empty(3, 3, device="meta")


def large_strided():
    return *large(), 100, 2


def many():
    """40,000 images, of 3.6 * 10^9 pixels, which no int32 can count; so are the pixels of the result."""
    device = "meta"
    x, weight = torch.empty(40_000, 1, 300, 300, device=device), torch.empty(1, 1, 3, 3, device=device)
    return x, weight, torch.empty(1, device=device), 1, 1, 1


TURNED = Mistake(
    "turned", turned,
    "Yours turns the filter by 180 degrees. That is the convolution of mathematics; what torch calls so does not turn it.",
)  # fmt: skip
LAST = Mistake("last", last_tap, "Yours keeps what the last tap adds, and forgets the others: the sum has to go on.")
UNWEIGHTED = Mistake(
    "unweighted", unweighted, "Yours adds up the pixels as they are. Each counts as often as its tap says."
)
TRANSPOSED = Mistake(
    "transposed", reading(lambda p, q, r, s, u, d: (p * u + s * d, q * u + r * d)),
    "Yours has r and s the wrong way round: r counts the rows of the filter, and goes with p.",
)  # fmt: skip
MIXED = Mistake(
    "mixed", reading(lambda p, q, r, s, u, d: (p * d + r * u, q * d + s * u)),
    "Yours has STRIDE and DILATION the wrong way round: windows lie a stride apart, taps of one window a dilation.",
)  # fmt: skip
NO_DILATION = Mistake(
    "no dilation", reading(lambda p, q, r, s, u, d: (p * u + r, q * u + s)),
    "Yours reads taps that lie side by side: DILATION is missing. Neighbours in the filter lie that far apart in the image.",
)  # fmt: skip
NO_STRIDE = Mistake(
    "no stride", reading(lambda p, q, r, s, u, d: (p + r * d, q + s * d)),
    "Yours moves on by one pixel: STRIDE is missing. Neighbours in the result read windows that lie that far apart.",
)  # fmt: skip
ROWS_ONLY = Mistake(
    "rows only",
    reading(lambda p, q, r, s, stride, dilation: (p * stride + r * dilation, p * stride + s * dilation)),
    "Your column comes of p, which counts rows: q counts columns.",
)
UNSCALED = Mistake(
    "neither", reading(lambda p, q, r, s, u, d: (p + r, q + s)),
    "This still is what step 1 asked for: go back to the lines of 1a, and let STRIDE and DILATION count.",
)  # fmt: skip


def places(n, taps, stride, padding, dilation):
    """Where the first tap of a filter can stand among n pixels."""
    return [h for h in range(-padding, n + padding, stride) if h + dilation * (taps - 1) < n + padding]


def sized(size, *numbers):
    """The student's size, or a complaint that counts."""
    got, first = size(*numbers), places(*numbers)
    if isinstance(got, float):
        raise Complaint(f"size gives {got:g}, a float: places are counted, and // divides whole numbers")
    if got != len(first):
        n, taps, stride, padding, dilation = numbers
        raise Complaint(
            f"size({n}, {taps}, {stride}, {padding}, {dilation}) is {got}, expected {len(first)}: among {n} pixels, with "
            f"{padding} more on either side, the first of {taps} taps can stand on {', '.join(map(str, first))}"
        )
    return torch.tensor(got)


def places_of(n, taps, stride, padding, dilation, why):
    return Case(f"{n} pixels, {taps} taps", lambda: (n, taps, stride, padding, dilation), why)


HAND = Step(
    "1", "one image, one filter", 8, "convolve", one,
    (
        Case("5x5 image, 3x3 filter", by_hand, "the example of the page", 16),
        single(4, 7, 3, 2, why="rows and columns that differ, and a filter that is not the same when it is turned"),
        single(6, 9, 2, 3, why="more pixels than a block", block=8),
        single(3, 3, 3, 3, why="a single pixel", block=2),
        single(2, 5, 1, 1, why="a filter of one tap"),
    ),
    (TURNED, TRANSPOSED, ROWS_ONLY, LAST, UNWEIGHTED),
    (
        "Lay the filter on the image, its top left corner on pixel (p, q). Where does tap (r, s) lie?",
        "r rows further down, s columns further right. p and q are blocks, r and s are numbers: they add up as they are.",
        "acc begins with 0, and each of the R * S taps adds one product to it.",
    ),
    explain, far=large, mirror=mirror_one,
)  # fmt: skip

SIZE = Step(
    "2", "how many places a filter has", 3, "size", lambda *numbers: torch.tensor(len(places(*numbers))),
    (
        places_of(5, 3, 1, 0, 1, "step 1's"),
        places_of(7, 3, 2, 0, 1, "a stride of 2"),
        places_of(8, 3, 2, 0, 1, "the same, and one pixel that no window reaches"),
        places_of(9, 3, 1, 0, 3, "a dilation of 3: from its first tap to its last, the filter spans 7 pixels"),
        places_of(10, 3, 3, 2, 2, "all of it"),
    ),
    (),
    (
        "From its first tap to its last, a filter spans DILATION * (taps - 1) + 1 pixels. Padding "
        "makes n longer, on both sides.",
        "A span of 3 among 7 pixels, with stride 2: its first tap can stand on 0, 2 and 4. That is (7 - 3) // 2 + 1.",
    ),
    call=sized, kernels=False,
)  # fmt: skip

STRIDED = Step(
    "3", "stride and dilation", 4, "convolve_strided", one,
    (
        single(7, 9, 3, 3, 2, 1, why="a stride of 2"),
        single(7, 8, 3, 2, 1, 2, why="a dilation of 2"),
        single(11, 14, 2, 3, 3, 2, why="both, and they differ", block=4),
        single(6, 8, 3, 3, 2, 1, why="pixels at the end that no window reaches"),
        single(5, 9, 3, 5, 1, 2, why="a single pixel"),
    ),
    (UNSCALED, NO_STRIDE, NO_DILATION, MIXED, TRANSPOSED, ROWS_ONLY, TURNED),
    (
        "Where does the window of pixel (p, q) begin, if neighbours begin STRIDE pixels apart?",
        "Pixel (p, q) begins STRIDE * p rows down, and tap r lies DILATION * r rows further.",
    ),
    explain, far=large_strided, mirror=mirror_one,
)  # fmt: skip

CHANNELS = Step(
    "4", "images, channels, filters, a bias", 8, "conv2d", spec,
    (
        batch(1, 1, 5, 5, 1, 3, 3, 1, 1, 1, "padding: the result is as large as the image", block=32),
        batch(1, 3, 4, 5, 1, 2, 2, 1, 0, 1, "three channels: a sum over all of them"),
        batch(1, 1, 4, 5, 3, 2, 3, 1, 0, 1, "three filters"),
        batch(2, 2, 6, 7, 3, 3, 2, 2, 1, 1, "everything at once", block=8),
        batch(3, 2, 5, 4, 2, 2, 3, 1, 2, 2, "a dilation, and a padding beyond it", block=16),
    ),
    (
        Mistake(
            "first channel", first_channel,
            "Yours reads channel 0 of the image again and again: where does channel c begin?",
        ),
        Mistake(
            "first of filter", first_of_filter,
            "Yours takes the taps of channel 0 for every channel: a filter has R * S taps for each.",
        ),
        Mistake("one filter", one_filter, "Every channel of your result is that of filter 0: where does filter k begin?"),
        Mistake("one image", one_image, "Every image of your result is that of image 0: where does image n begin?"),
        Mistake("biases", biases, "Yours adds the bias once a channel of the image: it belongs to the sum once."),
        Mistake("no bias", no_bias, "Yours leaves out the bias."),
        Mistake("clamped", clamped, "Yours repeats the pixels at the edge. Here, what lies outside counts as 0."),
    ),
    (
        "y is [N, K, P, Q]: its planes are counted image by image, and within an image filter by "
        "filter. Which is plane 5 of K = 3?",
        "Channel c of image n is plane n * C + c of x, and has H * W pixels. The weight is [K, C, R, "
        "S]: the same, with R * S taps.",
        "Some taps of windows at the edge lie outside, h or w below 0, or from H or W on. Their lanes "
        "must not load: they read as 0.",
        "One program for every block of pixels of every plane of y: the first number of the grid "
        "counts planes, the second blocks.",
    ),
    explain, far=many, mirror=mirror_batch,
    look=(
        Case(
            "64x56x56 by 3x3",
            lambda: (torch.empty(1, 64, 56, 56), torch.empty(64, 64, 3, 3), torch.empty(64), 1, 1, 1), block=256,
        ),
    ),
)  # fmt: skip

PICTURES = (
    Picture(
        "windows", "a program owns a pixel of y, and reads the window under the filter", "1", by_hand,
        {"x_ptr": "x: pixels it loads"}, {"y_ptr": "y: what it stores"}, ((0, 0, 0), (5, 0, 0), (6, 0, 0)), block=1,
    ),
    Picture(
        "strided", "stride 2, dilation 2: windows begin 2 pixels apart, their taps too", "3",
        lambda: (counted(7, 9), counted(3, 3), 2, 2),
        {"x_ptr": "x: pixels it loads"}, {"y_ptr": "y: what it stores"}, ((0, 0, 0), (2, 0, 0), (4, 0, 0)), block=1,
    ),
)  # fmt: skip

LESSON = Lesson(
    "Convolution: a sum over a window", 25, False, ("kernels/conv2d/direct.py", "kernels/conv2d/plain.py"),
    (HAND, SIZE, STRIDED, CHANNELS), PICTURES,
)  # fmt: skip
