"""What the checker asks of lesson 12: a layer, LeNet of such layers, a step of training, accuracy."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from torchops import reference
from torchops.course import mirrors
from torchops.course.lesson import Case, Complaint, Lesson, Mistake, Picture, Step
from torchops.models import LeNet


@functools.cache
def prepare():
    """The first step of an optimizer in a process loads much of torch."""
    torch.optim.SGD([nn.Parameter(torch.zeros(1))]).step()


def conv(x, weight, bias, padding):
    return reference.conv2d(x, weight, bias, padding=padding)


def layer(make, x, weight, bias, padding):
    """A layer of the student's class, with these parameters, called."""
    K, C, R, S = weight.shape
    made = make(C, K, (R, S), padding=padding, bias=bias is not None)
    wanted = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    names = list(made.state_dict())
    if sorted(names) != sorted(wanted):
        raise Complaint(
            f"The parameters of your layer are {names}, those of torch.nn.Conv2d {list(wanted)}: checkpoints of the one would "
            "not fit the other."
        )
    made.load_state_dict(wanted)
    return made(x).detach()


def net_of(make):
    """A LeNet of few channels for images of 16x16, with weights that are the same whoever makes it."""
    made = make(classes=4, size=16, widths=(2, 3), hidden=8)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return made


def theirs(dtype):
    """The same network of torch.nn's layers."""
    return net_of(functools.partial(LeNet, conv=nn.Conv2d, pool=nn.MaxPool2d)).to(dtype)


def called(make, images):
    made = make(classes=4, size=16, widths=(2, 3), hidden=8)
    if not isinstance(made, nn.Module):
        raise Complaint(f"network() returned {type(made).__name__}, and not a network.")
    if list(made.state_dict()) != list(theirs(torch.float32).state_dict()):
        raise Complaint(
            "The parameters of your network are not those of LeNet: is it made by LeNet(conv=..., **options)?"
        )
    if any(t.shape != made.state_dict()[name].shape for name, t in theirs(torch.float32).state_dict().items()):
        raise Complaint("Your network has other sizes than were asked for: hand **options on to LeNet.")
    return net_of(make)(images).detach()


def trained(step, net, images, digits, steps=2):
    """The losses of some steps, and the filters of the first convolution after them."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    try:
        losses = [step(net, optimizer, images, digits) for _ in range(steps)]
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        words = "Your step changes the weights before the gradients are computed, which need them: backward first, then step."
        raise Complaint(words).with_traceback(error.__traceback__) from None
    if not all(isinstance(loss, torch.Tensor) and loss.numel() == 1 for loss in losses):
        raise Complaint(f"train_step returned {type(losses[0]).__name__}: the loss is a tensor of one number.")
    return torch.stack([loss.detach().reshape(()) for loss in losses]), net.features[0].weight.detach().clone()


def training(step, images, digits):
    return trained(step, net_of(step.__globals__["network"]), images, digits)


def by_torch(step, images, digits):
    return trained(step, theirs(images.dtype), images, digits)


def right(net, optimizer, images, digits):
    optimizer.zero_grad()
    loss = F.nll_loss(net(images), digits)
    loss.backward()
    optimizer.step()
    return loss


def added_up(net, optimizer, images, digits):
    loss = F.nll_loss(net(images), digits)
    loss.backward()
    optimizer.step()
    return loss


def upwards(net, optimizer, images, digits):
    optimizer.zero_grad()
    loss = -F.nll_loss(net(images), digits)
    loss.backward()
    optimizer.step()
    return loss


def still(net, optimizer, images, digits):
    return F.nll_loss(net(images), digits)


class Says(nn.Module):
    """A network that gives the scores that it is given."""

    def forward(self, scores):
        if self.training:
            raise Complaint(
                "Your accuracy asks a network in training mode, where dropout and batch norm act otherwise: net.eval() first."
            )
        return scores


def judged(function, scores, digits):
    share = function(Says(), scores, digits)
    if isinstance(share, float):
        share = torch.tensor(share)
    if not isinstance(share, torch.Tensor) or share.numel() != 1:
        raise Complaint(f"accuracy returned {type(share).__name__}: the share is one number.")
    return share.detach().double().float().reshape(1)


SCORES = torch.tensor([[3.0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 1, 0], [0, 1, 2]])


def share(scores, digits):
    return (scores.argmax(1) == digits).double().mean().reshape(1)


def counted(scores, digits):
    return (scores.argmax(1) == digits).double().sum().reshape(1)


def numbers(*size):
    return torch.arange(1.0, torch.Size(size).numel() + 1).view(size)


def small(*size):
    return torch.randint(-2, 3, size).float()


def convolution(x, weight, bias, padding, why):
    def inputs():
        return numbers(*x), small(*weight), torch.arange(1.0, weight[0] + 1) * 100 if bias else None, padding

    of = "" if bias else ", no bias"
    return Case(f"{x[0]}x{x[1]}x{x[2]}x{x[3]} images, filters of {weight[2]}x{weight[3]}{of}", inputs, why)


def batch(n):
    """Stripes at four angles: something to be told apart."""
    h, w = torch.arange(16)[:, None], torch.arange(16)
    stripes = torch.stack([h % 4 + 0 * w, w % 4 + 0 * h, (h + w) % 4, (h - w) % 4]).float() / 3
    digits = torch.arange(n) % 4
    return stripes[digits, None] + torch.rand(n, 1, 16, 16) / 4, digits


def mistake(name, step, says):
    return Mistake(name, lambda images, digits: by_torch(step, images, digits), says)


SEVEN = """
................
................
....########....
....########....
..........##....
..........##....
.........##.....
.........##.....
........##......
......######....
......######....
.......##.......
.......##.......
......##........
......##........
................
"""


def seven():
    """An image of 16x16, 1 where there is ink."""
    ink = [[float(pixel == "#") for pixel in row] for row in SEVEN.split()]
    return (torch.tensor(ink).view(1, 1, 16, 16),)


STEPS = (
    Step(
        "1", "a layer with torch.nn's parameters", 5, "Conv2d", conv,
        (
            convolution((1, 1, 4, 5), (1, 1, 3, 3), True, 1, "one image, one filter; the bias is 100"),
            convolution((2, 3, 5, 7), (4, 3, 3, 2), True, 0, "a bias for each of several channels"),
            convolution((1, 2, 4, 4), (4, 2, 3, 3), False, 0, "a layer without a bias: self.bias is None"),
        ),
        (
            Mistake("no bias", lambda x, w, b, p: conv(x, w, None, p), "Your bias is missing."),
            Mistake("no padding", lambda x, w, b, p: conv(x, w, b, 0), "Your padding is 0, whatever the layer's is."),
        ),
        (
            "What nn.Conv2d's constructor keeps is there: self.weight, self.bias, self.padding.",
            "[K] and [N, K, P, Q] do not broadcast: sizes are compared from the right. self.bias[:, None, None] is [K, 1, 1].",
        ),
        call=layer,
        mirror=lambda x, weight, bias, padding: mirrors.plain(x, weight, bias, padding=padding),
    ),
    Step(
        "2", "LeNet of such layers", 3, "network", lambda images: theirs(torch.float64)(images).detach(),
        (Case("2 images of 16x16", lambda: (batch(2)[0],)),),
        hints=("LeNet takes the class of its convolutions as an argument. The class, Conv2d, and not a layer, Conv2d(...).",),
        call=called,
    ),
    Step(
        "3", "a step of training", 8, "train_step", lambda images, digits: by_torch(right, images, digits),
        (Case("4 images of stripes, 2 steps", lambda: batch(4), "the loss at each step, then the first filters after them"),),
        (
            mistake("added", added_up, "The gradients of both steps are added up: zero_grad comes before backward."),
            mistake("still", still, "Nothing has been learnt: the weights are as they were."),
            mistake("upwards", upwards, "Your loss has the other sign, so that the step goes uphill."),
        ),
        (
            "The order: the loss, no gradients, the gradients, the step.",
            "F.nll_loss(net(images), digits); optimizer.zero_grad(); loss.backward(); optimizer.step()",
        ),
        call=training,
        kernels=False,
    ),
    Step(
        "4", "accuracy", 4, "accuracy", share,
        (
            Case("5 images, 3 classes", lambda: (SCORES, torch.tensor([0, 1, 2, 1, 0])), "3 of 5 are right"),
            Case("7 images, 10 classes", lambda: (torch.rand(7, 10), torch.arange(7)), "other numbers of images and classes"),
        ),
        (Mistake("count", counted, "That is how many are right, and the share was asked for."),),
        ("scores.argmax(1) is the number of the largest in each row, and == compares element by element.",),
        call=judged,
        kernels=False,
    ),
)  # fmt: skip

PICTURES = (
    Picture(
        "first", "The first convolution of LeNet: three programs, and each computes 64 pixels of both channels", "2", seven,
        {"x_ptr": "the image"}, {"y_ptr": "its result"}, ((0, 0, 0), (1, 0, 0), (2, 0, 0)), launch=0,
    ),
)  # fmt: skip

LESSON = Lesson(
    "LeNet: put it in a network and train", 20, True, ("kernels/conv2d/plain.py",), STEPS, PICTURES, prepare
)
