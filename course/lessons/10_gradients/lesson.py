"""What the checker asks of lesson 10, gradients of a convolution: cases, mistakes that it knows by name, hints."""

import itertools

import torch

from torchops import reference
from torchops.course import mirrors
from torchops.course.lesson import Case, Lesson, Mistake, Picture, Step


def input_spec(dy, weight, size, stride, padding):
    """What autograd makes of the convolution's definition."""
    x = dy.new_zeros(dy.shape[0], weight.shape[1], *size, requires_grad=True)
    return torch.autograd.grad(reference.conv2d(x, weight, None, stride, padding), x, dy)[0]


def weight_spec(dy, x, taps, stride, padding):
    weight = dy.new_zeros(dy.shape[1], x.shape[1], *taps, requires_grad=True)
    return torch.autograd.grad(reference.conv2d(x, weight, None, stride, padding), weight, dy)[0]


def bias_spec(dy):
    bias = dy.new_zeros(dy.shape[1], requires_grad=True)
    return torch.autograd.grad(bias[:, None, None].expand_as(dy), bias, dy)[0]


def input_by(dy, weight, size, stride, padding):
    sides = (padding,) * 4
    return torch.ops.torchops.conv2d_input_grad(
        dy, weight, None, size, (stride,) * 2, sides, (1, 1), 1, "zeros", False
    )  # fmt: skip


def weight_by(dy, x, taps, stride, padding):
    return mirrors.weight_grad_direct(dy, x, taps, stride, padding)


def both_by(dy, x, taps, stride, padding):
    sides = (padding,) * 4
    return torch.ops.torchops.conv2d_weight_grad(
        dy, x, taps, (stride,) * 2, sides, (1, 1), 1, "zeros", 0.0, True, False
    )  # fmt: skip


def bias_by(dy):
    return both_by(dy, dy.new_zeros(dy.shape[0], 1, *dy.shape[2:]), (1, 1), 1, 0)[1]


def small(*shape):
    """Whole numbers from -4 to 4, whose sums are exact in float32."""
    return torch.randint(-4, 5, shape).float()


def sizes(h, w, taps, stride, padding):
    return (h + 2 * padding - taps[0]) // stride + 1, (w + 2 * padding - taps[1]) // stride + 1


def text(n, c, h, w, k, taps, stride, padding):
    return f"{n}x{c}x{h}x{w} by {k} filters of {taps[0]}x{taps[1]}, stride {stride}, padding {padding}"


def of_input(n, c, h, w, k, taps, stride, padding, why, block=None):
    def inputs():
        dy = small(n, k, *sizes(h, w, taps, stride, padding))
        return dy, small(k, c, *taps), (h, w), stride, padding

    return Case(text(n, c, h, w, k, taps, stride, padding), inputs, why, block)


def of_weight(n, c, h, w, k, taps, stride, padding, why, block=None):
    def inputs():
        return small(n, k, *sizes(h, w, taps, stride, padding)), small(n, c, h, w), taps, stride, padding

    return Case(text(n, c, h, w, k, taps, stride, padding), inputs, why, block)


def of_bias(n, k, p, q, why, block=None):
    return Case(f"{n}x{k}x{p}x{q}", lambda: (small(n, k, p, q),), why, block)


def digits():
    """dy counts its elements, and taps are powers of 10: each digit of dx is the element that came through that tap."""
    dy = torch.arange(1.0, 7.0).view(1, 1, 2, 3)
    return dy, 10.0 ** torch.arange(6).view(1, 1, 2, 3), (3, 5), 1, 0


def strided():
    """As `digits`, of every other pixel: the sizes of the page's picture."""
    dy = torch.arange(1.0, 13.0).view(1, 1, 3, 4)
    return dy, torch.arange(1.0, 10.0).view(1, 1, 3, 3), (5, 8), 2, 1


def strided_weight():
    return torch.arange(1.0, 13.0).view(1, 1, 3, 4), torch.arange(1.0, 41.0).view(1, 1, 5, 8), (3, 3), 2, 1


def many():
    """70,000 planes of 180 x 190 pixels, which no int32 can count."""
    dy = torch.empty(70_000, 1, 180, 190, device="meta")
    return dy, torch.empty(1, 1, 1, 1, device="meta"), (180, 190), 1, 0


def many_filters():
    """65,536 channels of 256 x 256 outputs, all in one block."""
    dy, x = torch.empty(1, 1 << 16, 256, 256, device="meta"), torch.empty(1, 1, 256, 256, device="meta")
    return dy, x, (1, 1), 1, 0, 1 << 16


def many_biases():
    return many_filters()[0], 1 << 16


def explain_input(inputs, first, got, want):
    """Which elements of dy are due."""
    dy, weight, _, stride, padding = inputs
    n, c, h, w = first
    K, _, R, S = weight.shape
    terms = []
    for k, r, s in itertools.product(range(K), range(R), range(S)):
        row, col = h + padding - r, w + padding - s
        p, q = row // stride, col // stride
        if row % stride == col % stride == 0 and 0 <= p < dy.shape[2] and 0 <= q < dy.shape[3]:
            channel = f" of channel {k}" if K > 1 else ""
            terms.append(
                f"{dy[n, k, p, q]:g} of output ({p}, {q}){channel} times {weight[k, c, r, s]:g} of tap ({r}, {s})"
            )
    if not terms:
        return "No output has read this pixel."
    more = f", and {len(terms) - 3} more" if len(terms) > 3 else ""
    return "Due are " + "; ".join(terms[:3]) + more + "."


def explain_weight(inputs, first, got, want):
    """The first products of the sum, and what each of several images adds."""
    dy, x, _, stride, padding = inputs
    (k, c, r, s), (H, W) = first, x.shape[2:]
    terms = []
    for p, q in itertools.product(*map(range, dy.shape[2:])):
        h, w = p * stride - padding + r, q * stride - padding + s
        if 0 <= h < H and 0 <= w < W:
            terms.append(f"{dy[0, k, p, q]:g} of output ({p}, {q}) times {x[0, c, h, w]:g} of pixel ({h}, {w})")
    if not terms:
        return f"Tap ({r}, {s}) has read no pixel."
    said = "Due are " + "; ".join(terms[:3]) + (", and so on." if len(terms) > 3 else ".")
    alone = [weight_spec(dy[n : n + 1].double(), x[n : n + 1].double(), *inputs[2:])[first] for n in range(len(x))]
    return said if len(x) == 1 else said + f" The images add {', '.join(f'{one:g}' for one in alone)}."


def gathered(dy, weight, size, stride, padding, even=True, turned=False):
    """dx by its definition, or with a mistake in it."""
    (_, _, P, Q), (_, _, R, S) = dy.shape, weight.shape
    dx = dy.new_zeros(dy.shape[0], weight.shape[1], *size)
    taps = weight.flip(2, 3) if turned else weight
    for r in range(R):
        for s in range(S):
            row, col = torch.arange(size[0]) + padding - r, torch.arange(size[1]) + padding - s
            p, q = row // stride, col // stride
            rows, cols = (row >= 0) & (p < P), (col >= 0) & (q < Q)
            if even:
                rows, cols = rows & (row % stride == 0), cols & (col % stride == 0)
            read = dy[:, :, p.clamp(0, P - 1)][..., q.clamp(0, Q - 1)] * (rows[:, None] & cols)
            dx += torch.einsum("nkhw,kc->nchw", read, taps[:, :, r, s])
    return dx


def summed(dy, x, taps, stride, padding, padded=True, strided=True):
    """dw by its definition, or with a mistake in it."""
    P, Q = dy.shape[2:]
    step, before = stride if strided else 1, padding if padded else 0
    # pixels beyond the image are zeros, however far the taps of the last output go
    x = torch.nn.functional.pad(x, (before, Q * stride + taps[1], before, P * stride + taps[0]))
    read = x.unfold(2, (P - 1) * step + 1, 1)[:, :, : taps[0]].unfold(3, (Q - 1) * step + 1, 1)[:, :, :, : taps[1]]
    return torch.einsum("nkpq,ncrspq->kcrs", dy, read[..., ::step, ::step])


UNEVEN = Mistake(
    "uneven", lambda *inputs: gathered(*inputs, even=False),
    "Yours rounds p down and goes on. With a stride, a tap has read a pixel only where the division comes out even.",
)  # fmt: skip
TURNED = Mistake(
    "turned", lambda *inputs: gathered(*inputs, turned=True),
    "Your taps are turned by 180 degrees. p is computed of r here, so that the tap is r itself: w[k, c, r, s].",
)  # fmt: skip
UNPADDED = Mistake(
    "unpadded", lambda *inputs: summed(*inputs, padded=False),
    "Yours reads as if there was no padding: row p * STRIDE - PADDING + r is meant.",
)  # fmt: skip
UNSTRIDED = Mistake(
    "unstrided", lambda *inputs: summed(*inputs, strided=False),
    "Yours reads as if STRIDE was 1: output p begins at row p * STRIDE - PADDING.",
)  # fmt: skip
FIRST_IMAGE = Mistake(
    "first",
    lambda dy, x, *more: weight_spec(dy[:1], x[:1], *more),
    "Yours has the first image alone. Each image adds to dw.",
)
LAST_IMAGE = Mistake(
    "last", lambda dy, x, *more: weight_spec(dy[-1:], x[-1:], *more),
    "Yours has the last image alone: what the others have added is overwritten.",
)  # fmt: skip
SWAPPED = Mistake(
    "swapped",
    lambda dy, x, taps, *more: weight_spec(dy, x, taps[::-1], *more).mT,
    "Your taps are swapped: row r first, then s.",
)
MEAN = Mistake(
    "mean",
    lambda dy: dy.mean((0, 2, 3)),
    "Yours is the mean. The bias is added to every pixel: its gradient is the sum.",
)
ONE_IMAGE = Mistake("image", lambda dy: dy[:1].sum((0, 2, 3)), "Yours has the first image alone.")


def look(*more):
    """A layer of a ResNet, 8 images."""
    dy, x = torch.empty(8, 64, 56, 56), torch.empty(8, 64, 56, 56)
    return lambda: (dy, torch.empty(64, 64, 3, 3), (56, 56), 1, 1) if more else (dy, x, (3, 3), 1, 1)


INPUT = Step(
    "1", "the gradient of x: who has read this pixel?", 10, "input_grad", input_spec,
    (
        Case("3x5 by 2x3 taps 1, 10, 100, ...", digits, "each digit of dx is the element of dy that came through that tap"),
        Case("5x8 by 3x3 taps, stride 2, padding 1", strided, "the picture of the page", 8),
        of_input(2, 3, 5, 4, 2, (2, 3), 1, 1, "several images and channels", 16),
        of_input(1, 2, 8, 9, 3, (2, 2), 3, 0, "a stride beyond the filter: pixels that no output has read", 64),
        of_input(1, 1, 1, 1, 2, (3, 3), 1, 1, "a single pixel"),
    ),
    (UNEVEN, TURNED),
    (
        "With STRIDE 2, PADDING 0 and R = 3: which outputs read row 4, and through which tap? Draw it.",
        "row must be a multiple of STRIDE: row % STRIDE says so. Nothing else decides between the pixels.",
        "Outputs go from 0 to P - 1, and from 0 to Q - 1. row may be negative.",
    ),
    explain_input, far=many, mirror=input_by, look=(Case("8x64x56x56 by 64 filters of 3x3", look("x"), block=256),),
)  # fmt: skip

IMAGE = Step(
    "2", "the gradient of the weight, of one image", 6, "weight_grad_adding", weight_spec,
    (
        Case("5x8 by 3x3 taps, stride 2, padding 1", strided_weight, "the picture of the page", 16),
        of_weight(1, 2, 5, 4, 3, (2, 3), 1, 0, "several channels, more outputs than a block", 8),
        of_weight(1, 1, 1, 1, 1, (3, 3), 1, 1, "a single pixel"),
    ),
    (UNPADDED, UNSTRIDED, SWAPPED),
    (
        "m counts the outputs of a plane row by row: p is m // Q, q is m % Q.",
        "It is what the convolution itself has read: the same formula, forward.",
        "acc has BLOCK sums, of which dw is one number. tl.sum adds up along an axis.",
    ),
    explain_weight, far=many_filters,
)  # fmt: skip

RACE = Step(
    "3", "experiment: two images", 4, "weight_grad_adding", weight_spec,
    (of_weight(2, 1, 4, 5, 2, (2, 2), 1, 0, "two images add to one dw"),), expect="race",
    seen="One image was right. Two load the same dw, and each stores its own sum: one of them may be lost. On to step 4.",
)  # fmt: skip

OWNER = Step(
    "4", "the gradient of the weight: an owner each", 6, "weight_grad", weight_spec,
    (
        Case("5x8 by 3x3 taps, stride 2, padding 1", strided_weight, "the picture of the page", 16),
        of_weight(3, 2, 4, 5, 3, (2, 3), 1, 1, "several images and channels, rows and columns that differ"),
        of_weight(2, 2, 7, 6, 1, (3, 2), 2, 1, "a stride, and more outputs than a block", 8),
    ),
    (FIRST_IMAGE, LAST_IMAGE, UNPADDED, UNSTRIDED, SWAPPED),
    (
        "e counts the elements of [K, C, R, S], the last fastest. s is e % S: what is left then?",
        "The number of programs is the number of elements of dw.",
        "k and c of e are there: r and s are found the same way.",
    ),
    explain_weight, far=many_filters, mirror=weight_by, look=(Case("8x64x56x56 by 64 filters of 3x3", look(), block=1024),),
)  # fmt: skip

BIAS = Step(
    "5", "the gradient of the bias: a kernel of yours", 4, "bias_grad", bias_spec,
    (
        of_bias(1, 2, 3, 4, "one image", 16),
        of_bias(2, 3, 1, 1, "a single pixel"),
        of_bias(3, 2, 5, 7, "several images, and a block that ends beyond the plane", 16),
    ),
    (MEAN, ONE_IMAGE),
    (
        "bias k is added to every pixel of channel k of every image. What does db[k] add up?",
        "One program a channel: loop over images and over blocks of pixels, as of_image does.",
        "Keep a block of sums, tl.zeros((BLOCK,), tl.float32), and add it up once, at the end.",
    ),
    far=many_biases, mirror=bias_by,
)  # fmt: skip

PICTURES = (
    Picture(
        "input_grad", "a program owns a row of dx, and loads the rows of dy that have read it", "1", strided,
        {"dy_ptr": "dy: outputs it loads"}, {"dx_ptr": "dx: pixels it stores"}, ((0, 0, 0), (0, 3, 0)), block=8,
    ),
    Picture(
        "weight_grad", "a program owns one element of dw, and loads all that its tap has read", "4", strided_weight,
        {"x_ptr": "x: pixels it loads"}, {"dw_ptr": "dw: elements it stores"}, ((4, 0, 0), (6, 0, 0)), block=16,
    ),
)  # fmt: skip

LESSON = Lesson(
    "Gradients: the same convolution, asked backwards", 30, False,
    ("kernels/conv2d/pixels.py", "kernels/conv2d/weight_grad_direct.py", "kernels/conv2d/sums.py"),
    (INPUT, IMAGE, RACE, OWNER, BIAS), PICTURES,
)  # fmt: skip
