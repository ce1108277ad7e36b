"""What the checker asks of lesson 9, the epilogue: cases, mistakes that it knows by name, hints."""

import torch

import torchops
from torchops import reference
from torchops.activations import ACTIVATIONS
from torchops.course.lesson import Case, Complaint, Lesson, Mistake, Picture, Step


def spec(x, weight, bias, stride, padding, activation, residual):
    """activation(conv(x) + bias + residual)."""
    return reference.conv2d(x, weight, bias, stride, padding, activation=activation, residual=residual)


def fused(x, weight, bias, stride, padding, activation, residual):
    return torchops.conv2d(x, weight, bias, stride, padding, activation=activation, residual=residual)


def small(*shape):
    """Whole numbers from -4 to 4, whose sums are exact in float32."""
    return torch.randint(-4, 5, shape).float()


def counted(*shape):
    """1, 2, 3, ... of a step of 100, so that a result shows which one was added."""
    return 100.0 * torch.arange(1, torch.Size(shape).numel() + 1).view(shape)


def problem(n, c, h, w, k, r, s, stride, padding, activation, residual=False, why="", block=None):
    def inputs():
        P, Q = (h + 2 * padding - r) // stride + 1, (w + 2 * padding - s) // stride + 1
        # the biases around 0, so that some channels are below it and some are not
        bias = counted(k) - 100 * (k // 2)
        return (
            small(n, c, h, w), small(k, c, r, s), bias, stride, padding, activation,
            -counted(n, k, P, Q) / 100 if residual else None,
        )  # fmt: skip

    text = f"{n}x{c}x{h}x{w} by {k} filters of {r}x{s}, {activation or 'no activation'}" + ", residual" * residual
    return Case(text, inputs, why, block)


def pictured():
    x, weight = torch.arange(1.0, 43.0).view(1, 1, 6, 7), torch.ones(2, 1, 3, 3)
    return x, weight, torch.tensor([0.0, -150.0]), 1, 0, "relu", -torch.ones(1, 2, 4, 5)


def rounded():
    """Sums of 2049, which float16 does not have: 2048 and 2050 are neighbours there."""
    x = torch.full((1, 1, 2, 3), 683.0, dtype=torch.float16)
    return (
        x,
        torch.full((1, 1, 1, 1), 3.0).half(),
        torch.zeros(1).half(),
        1,
        0,
        "leaky_relu",
        torch.full_like(x, -2000.0),
    )


def signs():
    """Sums of -5, -3, ..., 5: there torchops's sigmoid, which cannot overflow, has the last bit of tl.sigmoid."""
    x = torch.arange(-2.5, 3.0).view(1, 1, 1, 6)
    return x, torch.full((1, 1, 1, 1), 2.0), torch.zeros(1), 1, 0, "silu", torch.zeros(1, 1, 1, 6)


def many():
    """A result of 70,000 planes of 180 x 190 pixels, which no int32 can count."""
    x, w = torch.empty(70_000, 1, 180, 190, device="meta"), torch.empty(1, 1, 1, 1, device="meta")
    return x, w, torch.empty(1, device="meta"), 1, 0, "relu", torch.empty_like(x)


def many_alone():
    """The same, without a residual."""
    return *many()[:-1], None


def many_normalised():
    x, weight, bias, *_ = many()
    return x, weight, bias, (bias, bias, bias, bias, 0.125), 1, 0


def explain(inputs, first, got, want):
    """What the value would be one operation earlier, if it is that."""
    x, weight, bias, stride, padding, _, residual = inputs
    x, weight, bias = x.double(), weight.double(), bias.double()
    known = [
        ("the sum alone, without bias", spec(x, weight, None, stride, padding, None, None)),
        ("the sum and the bias, without activation", spec(x, weight, bias, stride, padding, None, None)),
    ]
    if residual is not None:
        known.append(
            (
                "sum, bias and residual, without activation",
                spec(x, weight, bias, stride, padding, None, residual.double()),
            )
        )
    same = [words for words, values in known if abs(values[first].item() - got) <= 1e-3 * max(1.0, abs(got))]
    if same:
        return f"That is {same[0]}."
    k, alone = first[1], known[0][1][first]
    more = "" if residual is None else f" and whose residual here is {residual[first]:g}"
    return f"It is of channel {k}, whose bias is {bias[k]:g}{more}. The sum of the convolution alone is {alone:g}."


def activated_early(x, weight, bias, stride, padding, activation, residual):
    y = spec(x, weight, None, stride, padding, activation, None) + bias[:, None, None]
    return y if residual is None else y + residual


def residual_late(x, weight, bias, stride, padding, activation, residual):
    y = spec(x, weight, bias, stride, padding, activation, None)
    return y if residual is None else y + residual


def rounded_early(x, weight, bias, stride, padding, activation, residual):
    y = spec(x.double(), weight.double(), bias.double(), stride, padding, None, None).to(x.dtype).double()
    y = y if residual is None else y + residual.double()
    return y if activation is None else ACTIVATIONS[activation].function(y)


def sigmoid_only(x, weight, bias, stride, padding, activation, residual):
    y = spec(x, weight, bias, stride, padding, None, residual)
    return torch.sigmoid(y) if activation == "silu" else spec(x, weight, bias, stride, padding, activation, residual)


def clipped(x, weight, bias, stride, padding, activation, residual):
    return spec(x, weight, bias, stride, padding, "relu", residual)


EARLY = Mistake(
    "early",
    activated_early,
    "Yours activates the sum, and adds afterwards. Everything is added first: the activation is last.",
)
LATE = Mistake(
    "late", residual_late, "Yours adds the residual behind the activation. It is added before, as in a ResNet."
)
ROUNDED = Mistake(
    "rounded", rounded_early,
    "Yours rounds the sum to float16 before the residual is added. Stay in float32 to the end, and round once, at the store.",
)  # fmt: skip
SIGMOID = Mistake("sigmoid", sigmoid_only, "That is the sigmoid alone. silu is y times it.")
CLIPPED = Mistake("clipped", clipped, "That is relu, which was not asked for.")


def normalised(x, weight, bias, norm, stride, padding):
    """relu(BatchNorm(conv(x) + bias)), with the statistics as they are after training."""
    mean, var, gamma, beta, eps = (one.double() if isinstance(one, torch.Tensor) else one for one in norm)
    y = reference.conv2d(x, weight, bias, stride, padding)
    return torch.relu(torch.nn.functional.batch_norm(y, mean, var, gamma, beta, eps=eps))


def normalised_by(x, weight, bias, norm, stride, padding):
    mean, var, gamma, beta, eps = norm
    scale = gamma / torch.sqrt(var + eps)
    folded = weight * scale[:, None, None, None], (bias - mean) * scale + beta
    return torchops.conv2d(x, *folded, stride, padding, activation="relu")


def layers(n, c, h, w, k, r, s, stride, padding, why="", block=None):
    """var + eps are 1/4, 1, 4, 16, ..., so that scales are exact, and differ."""

    def inputs():
        deviation = 2.0 ** torch.arange(-1, k - 1)
        eps = 0.125
        norm = 3 * small(k), deviation**2 - eps, 1.0 + torch.arange(k), 40 + small(k), eps
        return small(n, c, h, w), small(k, c, r, s), counted(k) / 100, norm, stride, padding

    return Case(f"{n}x{c}x{h}x{w} by {k} filters of {r}x{s}, stride {stride}", inputs, why, block)


def _folded(x, weight, bias, norm, stride, padding, wrong):
    mean, var, gamma, beta, eps = norm
    scale = gamma / torch.sqrt(var + (0 if wrong == "eps" else eps))
    shift = {"bias": bias + beta - mean * scale, "mean": bias * scale + beta}.get(wrong, (bias - mean) * scale + beta)
    weight = weight if wrong == "weight" else weight * scale[:, None, None, None]
    return torch.relu(reference.conv2d(x, weight, shift, stride, padding))


def folding(wrong, says):
    return Mistake(wrong, lambda *inputs: _folded(*inputs, wrong), says)


FOLDING = (
    folding("eps", "Yours leaves out eps: the variance and eps are added before the root."),
    folding("bias", "Your bias is not scaled. BatchNorm comes behind the bias: it scales the sum and the bias alike."),
    folding("mean", "Yours does not take away the mean, which BatchNorm does before it scales."),
    folding("weight", "Your weight is not scaled; only the bias is."),
)


def explain_norm(inputs, first, got, want):
    bias, (mean, var, gamma, beta, eps) = inputs[2], inputs[3]
    k = first[1]
    return (
        f"It is of channel {k}: bias {bias[k]:g}, mean {mean[k]:g}, variance and eps {var[k] + eps:g}, "
        f"gamma {gamma[k]:g}, beta {beta[k]:g}."
    )


def one_launch(launches, *_):
    if len(launches) > 1:
        raise Complaint(
            f"Right, but in {len(launches)} launches: the image goes through memory again for each. One is enough, "
            "the convolution's, with another weight and another bias."
        )


def look(activation, residual):
    def inputs():
        x, y = torch.empty(8, 64, 56, 56), torch.empty(8, 64, 56, 56)
        return x, torch.empty(64, 64, 3, 3), torch.empty(64), 1, 1, activation, y if residual else None

    return Case(f"8x64x56x56, {activation or 'nothing'}" + ", residual" * residual, inputs, block=256)


ADD = Step(
    "1", "bias and relu, in registers", 6, "conv2d", spec,
    (
        problem(1, 1, 6, 7, 2, 3, 3, 1, 0, "relu", why="the picture of the page"),
        problem(1, 2, 1, 1, 3, 1, 1, 1, 0, "relu", why="a single pixel", block=32),
        problem(2, 3, 5, 6, 4, 2, 3, 1, 1, None, why="several images and filters: whose bias is it?", block=16),
        problem(1, 2, 7, 9, 3, 3, 2, 2, 1, "relu", why="a stride, and blocks that end beyond the image", block=8),
    ),
    (EARLY,),
    (
        "A program has one channel of one image, plane % K. How many biases does it need?",
        "Where does the program know its channel? k is there already; bias_ptr + k is one address, not a block of them.",
        "tl.maximum takes a block and a number.",
    ),
    explain, far=many_alone, mirror=fused, look=(look(None, False), look("relu", False)),
)  # fmt: skip

FOUR = Step(
    "2", "experiment: the same in four kernels", 4, "in_four", normalised,
    (layers(1, 3, 6, 7, 4, 3, 3, 1, 1, "one answer, by four kernels", 64),),
    far=many_normalised,
    seen="Four kernels, and the right answer: now count the bytes, with the cell of the page.",
)  # fmt: skip

FOLD = Step(
    "3", "BatchNorm, folded into the weight", 5, "in_one", normalised,
    (
        layers(1, 1, 5, 6, 3, 2, 2, 1, 0, "three channels, each with statistics of its own"),
        layers(2, 3, 6, 5, 4, 3, 3, 1, 1, "several images, several channels in and out", 16),
        layers(1, 2, 7, 9, 5, 3, 2, 2, 1, "a stride, and blocks that end beyond the image", 8),
    ),
    FOLDING,
    (
        "BatchNorm of one channel is gamma * (y - mean) / sqrt(var + eps) + beta. Put y = sum + bias into it.",
        "Multiply out, with scale = gamma / sqrt(var + eps): what stands with the sum, and what is left?",
        "scale has K elements and weight is [K, C, R, S]: scale[:, None, None, None] stands along its first side.",
    ),
    explain_norm, far=many_normalised, mirror=normalised_by, after=one_launch,
)  # fmt: skip

REST = Step(
    "4", "residual, more activations, one rounding", 5, "conv2d", spec,
    (
        problem(1, 2, 4, 5, 3, 3, 3, 1, 1, "relu", True, "a residual, added before the activation"),
        problem(2, 2, 5, 6, 3, 2, 3, 1, 0, "leaky_relu", True, "several planes: each has its own residual", 16),
        Case("1x6 pixels, silu", signs, "silu of -5, -3, ..., 5"),
        Case("2x3 pixels of float16, residual", rounded, "float16 has 2048 and 2050, but not 2049: round once, at the end"),
        problem(1, 2, 7, 9, 3, 3, 2, 2, 1, "relu", True, "a stride, and blocks that end beyond the image", 8),
    ),
    (ROUNDED, EARLY, LATE, SIGMOID, CLIPPED),
    (
        "The residual has the shape of y. Where does the program store its pixels? There it finds those of the residual.",
        "Lanes beyond the image are masked at the store; they are to be masked at this load, too.",
        "tl.where(condition, a, b) takes a where the condition holds. tl.sigmoid(y) is 1 / (1 + exp(-y)).",
    ),
    explain, far=many, mirror=fused, look=(look("silu", True),),
)  # fmt: skip

PICTURES = (
    Picture(
        "epilogue", "a program reads its windows, its pixels of the residual, and stores once", "4", pictured,
        {"x_ptr": "x", "residual_ptr": "residual, channels 0 and 1"}, {"y_ptr": "y, channels 0 and 1"},
        ((0, 0, 0), (0, 2, 0), (1, 1, 0)), block=8,
    ),
)  # fmt: skip

LESSON = Lesson(
    "The epilogue: finish it while it is in registers", 20, False,
    ("kernels/conv2d/epilogue.py", "kernels/device/activations.py"), (ADD, FOUR, FOLD, REST), PICTURES,
)  # fmt: skip
