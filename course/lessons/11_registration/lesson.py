"""What the checker asks of lesson 11, an operator of PyTorch: its registration, its gradients, its errors, compilation."""

import functools
import importlib
from pathlib import Path

import torch

import torchops
from torchops import reference
from torchops.course import mirrors
from torchops.course.lesson import Case, Lesson, Mistake, Picture, Step, module

checks = module(Path(__file__).with_name("checks.py"), "torchops_course_registration_checks")
differentiated = checks.differentiated


@functools.cache
def prepare():
    """What compiles, loaded and used once: that takes seconds, and none of a student's time."""
    importlib.import_module("torch.testing._internal.optests")
    torch.compile(torch.relu, backend="aot_eager", fullgraph=True)(torch.ones(1, requires_grad=True)).backward()


def spec(x, weight, padding):
    return reference.conv2d(x, weight, padding=tuple(padding))


def compiled_spec(x, weight, padding, dy):
    return spec(x, weight, padding), *differentiated(spec)(x, weight, padding, dy, ("x", "weight"))


def numbers(*size, dtype=torch.float32):
    """1, 2, 3, and so on; every other one negative."""
    x = torch.arange(1, torch.Size(size).numel() + 1)
    return (x * (1 - 2 * (x % 2 == 0))).to(dtype).view(size)


def small(*size, dtype=torch.float32):
    return torch.randint(-2, 3, size).to(dtype)


def problem(x, weight, padding, name="", why="", dtype=torch.float32):
    def inputs():
        return numbers(*x, dtype=dtype), small(*weight, dtype=dtype), padding

    return Case(name or f"{x[2]}x{x[3]} pixels, {weight[2]}x{weight[3]} filters, padding {padding}", inputs, why)


def strided():
    """What a layer before may give: pixels with all their channels together, and a filter bank that was transposed."""
    x = numbers(2, 5, 6, 3).permute(0, 3, 1, 2)
    return x, small(3, 4, 3, 2).transpose(0, 1), (1, 0)


def gradient(x, weight, padding, wanted, why=""):
    def inputs():
        size = spec(torch.zeros(x), torch.zeros(weight), padding).shape
        return small(*x), small(*weight), padding, small(*size), wanted

    of = " and ".join(wanted)
    return Case(f"{x[2]}x{x[3]} pixels, {weight[2]}x{weight[3]} filters, gradient of {of}", inputs, why)


def in_numbers(x, weight, padding):
    """The convolution of what lies in memory, as if that were in the order of its sizes."""
    as_if = [t.as_strided(t.shape, torch.empty(t.shape).stride()) for t in (x, weight)]
    return spec(*as_if, padding)


def unturned(x, weight, padding, dy, wanted):
    """The gradients, with filters as they are in the first."""
    (dw,) = differentiated(spec)(x, weight, padding, dy, ("weight",))
    sides = weight.shape[2] - 1 - padding[0], weight.shape[3] - 1 - padding[1]
    both = {"x": spec(dy, weight.transpose(0, 1), sides), "weight": dw}
    return tuple(both[name] for name in wanted)


PAGE = problem((1, 1, 4, 5), (1, 1, 3, 3), (1, 1), why="one image, one filter")
SEVERAL = problem((2, 3, 5, 7), (4, 3, 3, 2), (1, 0), why="images, channels and filters, all of other numbers")
MANY = problem((1, 2, 9, 11), (17, 2, 3, 3), (0, 0), why="more pixels and more filters than a block")
STRIDED = Case("strided tensors", strided, "tensors that are not contiguous: transposing changes no memory")
HALF = problem((1, 2, 4, 4), (3, 2, 3, 3), (0, 1), name="float16", why="another dtype", dtype=torch.float16)

STEPS = (
    Step(
        "1", "define and implement: a name for your kernel", 6, "register", spec,
        (PAGE, SEVERAL, MANY, STRIDED),
        (
            Mistake(
                "strides", in_numbers,
                "Yours reads the memory as if it were contiguous, and here it is not: `launch` trusts its caller.",
            ),
        ),
        (
            'A schema reads "(Tensor a, Tensor b, float c) -> Tensor". A list of two whole numbers is int[2].',
            "What does the docstring of `launch` ask of x and weight? tensor.contiguous() copies, where that is needed.",
        ),
        call=checks.called,
        far=lambda: (torch.empty(3, 2, 30_000, 30_000, device="meta"), torch.empty(2, 2, 3, 3, device="meta"), (1, 1)),
        mirror=lambda x, weight, padding: mirrors.plain(x, weight, padding=padding),
    ),
    Step(
        "2", "a fake: the size, without the result", 4, "register", spec,
        (PAGE, SEVERAL, STRIDED, HALF),
        hints=(
            "Nobody looks at the values: x.new_empty(sizes) is all there is to it.",
            "`size` above computes the sizes; `launch` uses it too.",
        ),
        call=checks.faked,
        kernels=False,
        mirror=lambda x, weight, padding: mirrors.plain(x, weight, padding=padding),
    ),
    Step(
        "3", "gradients: the same operator twice", 8, "register", differentiated(spec),
        (
            gradient((1, 1, 4, 5), (1, 1, 3, 3), (1, 1), ("x", "weight"), "one image, one filter"),
            gradient((2, 3, 5, 6), (4, 3, 3, 2), (1, 0), ("x", "weight"), "images, channels and filters, all of other numbers"),
            gradient((2, 1, 5, 4), (3, 1, 2, 3), (0, 0), ("weight",), "the first layer: the image needs no gradient"),
            gradient((1, 2, 4, 4), (2, 2, 3, 3), (0, 1), ("x",), "a layer that is frozen"),
        ),
        (
            Mistake("unturned", unturned, "Your filters are not turned: `turned` is for the gradient of x."),
        ),
        (
            "Which tensors does `backward` unpack from ctx.saved_tensors, and what else does it read from ctx?",
            "The first pixel of x meets the last tap of a filter: the padding is R - 1 - TOP above, S - 1 - LEFT on the left.",
            "dw[k, c] sums over images. Let images take the place of channels: x.transpose(0, 1) and dy.transpose(0, 1).",
        ),
        call=checks.gradients,
        kernels=False,
        after=checks.check_launches,
        mirror=differentiated(lambda x, weight, padding: torchops.conv2d(x, weight, padding=padding)),
    ),
    Step(
        "4", "an error that helps: refuse by name", 4, "conv2d", spec,
        (problem((2, 3, 5, 7), (4, 3, 3, 2), (1, 0), "six calls that are wrong, one that is right"),),
        hints=(
            "Two lines for each: an `if`, and raise ValueError(f\"`weight` is for {weight.shape[1]} channels, ...\").",
            "What is too large shows in the size of the result: `size` computes it.",
        ),
        call=checks.refusing,
        kernels=False,
    ),
    Step(
        "5", "compile and export, with nothing to write", 3, "conv2d", compiled_spec,
        (Case("4x5 pixels, a 3x3 filter", lambda: (small(1, 2, 4, 5), small(3, 2, 3, 3), (1, 1), small(1, 3, 4, 5))),),
        call=checks.compiled,
        kernels=False,
    ),
)  # fmt: skip

PICTURES = (
    Picture(
        "backward", "The same kernel, launched by backward: what it loads is dy, what it stores is dx", "3",
        gradient((1, 1, 9, 11), (1, 1, 3, 3), (1, 1), ("x",)).inputs, {"x_ptr": "dy"}, {"y_ptr": "dx"}, ((0, 0, 0), (1, 0, 0)),
        launch=1,
    ),
)  # fmt: skip

LESSON = Lesson("Being an operator of PyTorch", 25, False, ("kernels/conv2d/plain.py",), STEPS, PICTURES, prepare)
