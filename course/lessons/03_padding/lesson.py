"""What the checker asks of lesson 3, padding by index: cases, mistakes that it knows by name, hints."""

import torch

import torchops
from torchops import reference
from torchops.course.lesson import Case, Lesson, Mistake, Picture, Step


def spec(x, n, mode, value=0.0):
    """n more pixels on each side."""
    return reference.pad(x, (n, n, n, n), mode, value)


def planes(conv2d, x, weight, **more):
    """The same window for every plane of x: planes go as images of one channel."""
    N, C, H, W = x.shape
    y = conv2d(x.reshape(N * C, 1, H, W), weight, **more)
    return y.view(N, C, *y.shape[2:])


def padded(conv2d, x, n, mode, value=0.0):
    """The same, as a convolution whose window is one pixel of weight 1."""
    return planes(conv2d, x, x.new_ones(1, 1, 1, 1), padding=n, padding_mode=mode, padding_value=value)


def blurred(conv2d, x, n, mode, value=0.0):
    size = 2 * n + 1
    return planes(conv2d, x, x.new_ones(1, 1, size, size), padding=n, padding_mode=mode, padding_value=value) / size**2


def spec_of_blur(x, n, mode, value=0.0):
    """The mean of a pixel and its neighbours, n to each side."""
    return blurred(reference.conv2d, x, n, mode, value)


def problem(shape, n, mode, *value, block=None, why=""):
    """x counts its pixels from 1, so that a wrong pixel says whose value it holds."""

    def inputs():
        return torch.arange(1.0, torch.Size(shape).numel() + 1).view(shape), n, mode, *value

    size = f"{shape[0]}x{shape[1]} planes of {shape[2]}x{shape[3]}"
    border = " ".join([mode, *(f"{v:g}" for v in value)])
    return Case(f"{size}, {n} more on each side, {border}", inputs, why, block)


def explain(inputs, first, got, want):
    x, n, mode, *_ = inputs
    row, col = first[2] - n, first[3] - n
    inside = 0 <= row < x.shape[2] and 0 <= col < x.shape[3]
    text = f"It is position ({row}, {col}) of x, "
    if inside:
        text += "a pixel of it."
    elif mode == "reflect":
        here = (x[first[0], first[1]] == want).nonzero()[0].tolist()
        text += f"which stands for pixel ({here[0]}, {here[1]})."
    else:
        text += "beyond the border."
    i = int(got) - 1
    if got == int(got) and 0 <= i < x.numel():
        n, c, h, w = (int(k) for k in torch.unravel_index(torch.tensor(i), x.shape))
        plane = "" if (n, c) == first[:2] else f" of plane ({n}, {c})"
        text += f" Yours holds the value of pixel ({h}, {w}){plane}."
    return text


def explain_mean(inputs, first, got, want):
    x, n, mode, *value = inputs
    window = spec(x, n, mode, *value)[first[:2]][first[2] : first[2] + 2 * n + 1, first[3] : first[3] + 2 * n + 1]
    total, rows = window.sum().item(), " / ".join(" ".join(f"{v:g}" for v in row) for row in window.tolist())
    return f"Its window holds {rows}; that is {total:g} in all, and {total:g} / {window.numel()} = {want:g}."


def at(x, n, index):
    """x padded, where `index(i, size)` is the pixel that position i stands for."""
    h, w = (index(torch.arange(-n, size + n), size) for size in x.shape[2:])
    return x[:, :, h][..., w]


def symmetric(i, size):
    i = torch.where(i < 0, -1 - i, i)
    return torch.where(i >= size, 2 * size - 1 - i, i).clamp(0, size - 1)


def left_only(i, size):
    return i.abs().clamp(max=size - 1)


def corner(x, n, mode, value=0.0):
    """All of the padding on the right and at the bottom."""
    return reference.pad(x, (0, 2 * n, 0, 2 * n), "constant", value)


def divided_by_what_exists(x, n, mode, value=0.0):
    if mode == "reflect":
        return spec_of_blur(x, n, mode)
    return blurred(reference.conv2d, x, n, "zeros") / blurred(reference.conv2d, torch.ones_like(x), n, "zeros")


ZEROS = Mistake(
    "zeros", lambda x, n, mode, value=0.0: spec(x, n, "zeros"), "Beyond the border yours holds 0, and not `value`."
)
STEPS = (
    Step(
        "1",
        "zeros, or any constant",
        7,
        "pad",
        spec,
        (
            problem((1, 1, 3, 4), 2, "zeros", block=4, why="the picture of the page"),
            problem((1, 1, 3, 4), 1, "constant", 255.0, why="a frame of white"),
            problem((2, 3, 2, 5), 3, "constant", -1.0, block=8, why="several planes; more padding than image"),
            problem((1, 2, 1, 1), 1, "zeros", why="an image of one pixel"),
            problem((1, 1, 2, 3), 0, "zeros", why="no padding at all"),
        ),
        (
            ZEROS,
            Mistake(
                "corner",
                corner,
                "The image lies in the upper left corner of yours: pixel (0, 0) of it belongs to (n, n).",
            ),
            Mistake(
                "replicate",
                lambda x, n, mode, value=0.0: spec(x, n, "replicate"),
                "Yours repeats the border, as in lesson 2; here it is a constant.",
            ),
        ),
        (
            "Pixel (n, n) of y is pixel (0, 0) of x. Then which position of x is pixel (0, 0) of y?",
            "A lane that is masked off loads nothing, and gets what `other` says.",
        ),
        explain,
        far=lambda: (torch.empty(300, 8, 1000, 1000, device="meta"), 2, "zeros"),
        look=(Case("64x224x224", lambda: (torch.empty(1, 64, 224, 224), 2, "zeros"), block=256),),
        mirror=lambda *inputs: padded(torchops.conv2d, *inputs),
    ),
    Step(
        "2",
        "reflect: the image as its own mirror",
        6,
        "pad",
        spec,
        (
            problem((1, 1, 3, 4), 2, "reflect", block=4, why="the picture of the page"),
            problem((2, 3, 4, 6), 3, "reflect", block=4, why="as far as a mirror reaches: 3 pixels, of 4"),
            problem((1, 2, 3, 2), 1, "reflect", why="rows of two pixels"),
            problem((2, 3, 2, 5), 3, "constant", -1.0, block=8, why="what was right remains so"),
        ),
        (
            Mistake(
                "symmetric",
                lambda x, n, *_: at(x, n, symmetric),
                "Your mirror stands beside the border, and shows that pixel twice. Let it stand on the pixel: -1 is 1.",
            ),
            Mistake(
                "replicate",
                lambda x, n, *_: spec(x, n, "replicate"),
                "Yours repeats the pixel at the border; a mirror shows those that lie behind it.",
            ),
            Mistake(
                "circular",
                lambda x, n, *_: spec(x, n, "circular"),
                "Yours goes round to the other side of the image; a mirror turns back.",
            ),
            Mistake(
                "left", lambda x, n, *_: at(x, n, left_only), "Left and top are mirrored, right and bottom are not."
            ),
        ),
        (
            "Write the positions of a row of 4 pixels, 3 further on each side, and below each the pixel that it stands for.",
            "Left, -1 -2 -3 stand for 1 2 3. Right, with size 4, 4 5 6 stand for 2 1 0. Which sum is always the same?",
            "4 + 2 = 5 + 1 = 6 + 0 = 2 * (size - 1).",
        ),
        explain,
        far=lambda: (torch.empty(300, 8, 1000, 1000, device="meta"), 2, "reflect"),
        look=(Case("64x224x224", lambda: (torch.empty(1, 64, 224, 224), 2, "reflect"), block=256),),
        mirror=lambda *inputs: padded(torchops.conv2d, *inputs),
    ),
    Step(
        "3",
        "no padded copy",
        7,
        "blur",
        spec_of_blur,
        (
            problem((1, 1, 3, 4), 1, "reflect", why="windows of 3x3"),
            problem((1, 1, 3, 4), 1, "constant", 100.0, why="a frame of 100 shines in"),
            problem((1, 2, 3, 6), 2, "reflect", block=4, why="windows of 5x5, several planes, several programs a row"),
            problem((1, 2, 5, 3), 1, "zeros", why="a dark border"),
        ),
        (
            Mistake(
                "sum",
                lambda x, n, *more: spec_of_blur(x, n, *more) * (2 * n + 1) ** 2,
                "Yours is the sum of the window, not its mean.",
            ),
            Mistake(
                "existing",
                divided_by_what_exists,
                "Yours divides by the number of pixels that exist. Here the padding counts: the window is always full.",
            ),
            Mistake(
                "once",
                lambda x, *_: x,
                "Yours adds up the same pixel every time: r and s say which neighbour is meant.",
            ),
        ),
        (
            "You have written what (h, w) holds, wherever it lies: `pixel`. A neighbour of (h, w) is (h + r, w + s).",
            "A window has 2 * N + 1 rows and as many columns.",
        ),
        explain_mean,
        far=lambda: (torch.empty(300, 8, 1000, 1000, device="meta"), 1, "reflect"),
        look=(Case("64x224x224", lambda: (torch.empty(1, 64, 224, 224), 1, "reflect"), block=256),),
        mirror=lambda *inputs: blurred(torchops.conv2d, *inputs),
    ),
)

PICTURES = (
    Picture(
        "zeros",
        "zeros: a program owns 4 pixels, and loads those that exist",
        "1",
        STEPS[0].cases[0].inputs,
        {"x_ptr": "x: pixels it loads"},
        {"y_ptr": "y: pixels it stores"},
        ((1, 0, 0), (2, 0, 0), (3, 1, 0)),
        block=4,
    ),
    Picture(
        "reflect",
        "reflect: what lies beyond the border are pixels that it loads once more",
        "2",
        STEPS[1].cases[0].inputs,
        {"x_ptr": "x: pixels it loads"},
        {"y_ptr": "y: pixels it stores"},
        ((1, 0, 0), (2, 0, 0), (6, 1, 0)),
        block=4,
    ),
)

LESSON = Lesson(
    "Padding by index: which pixel is meant?",
    20,
    False,
    ("kernels/device/borders.py", "kernels/conv2d/flat.py"),
    STEPS,
    PICTURES,
)
