"""LeNet with a convolution of one's own, and its training, solved."""

import torch
import torch.nn.functional as F
from torch import nn

from torchops.course.given import convolution
from torchops.models import LeNet

# Lesson 11's, with its kernel and its gradients. Have you written yours? convolution("../11_registration/registration.py")
conv2d = convolution()


# Step 1. A layer: parameters that an optimizer finds, and a forward.
class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d with stride 1, with its parameters under their names, computed by `conv2d`."""

    def __init__(self, in_channels, out_channels, kernel_size, padding=0, bias=True):
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=bias)

    def forward(self, x):
        y = conv2d(x, self.weight, self.padding)  #: 1a the layer's own parameters; self.padding is a pair
        return y if self.bias is None else y + self.bias[:, None, None]  #: 1b a bias [K], if there is one


# Step 2. A network of such layers.
def network(**options):
    """LeNet, whose convolutions are ours. Options are those of torchops.models.LeNet."""
    return LeNet(conv=Conv2d, **options)  #: 2a look at its arguments


# Step 3. Learning: the loss, which way is down, a step.
def train_step(net, optimizer, images, digits):  #: 3a four lines
    """One step of the optimizer on a batch; returns the loss before it.

    `net(images)` are log-probabilities [N, classes], of which F.nll_loss makes a loss. Gradients are added to those that a
    parameter has, so that the old ones have to go first.
    """
    loss = F.nll_loss(net(images), digits)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


# Step 4. How good is it?
@torch.no_grad()
def accuracy(net, images, digits):
    """The share of images whose likeliest class is the right one, from 0 to 1."""
    net.eval()
    return (net(images).argmax(1) == digits).double().mean()  #: 4a the largest of each row, compared, and the mean


# Given: the whole of it, on real digits. `python lenet.py` trains.
def handwritten():
    """1,797 digits of 13 people, 8x8 pixels made 16x16, from 0 to 1: to learn from, and every fifth to be judged by."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = F.interpolate(torch.from_numpy(found.images).float()[:, None] / 16, scale_factor=2)
    digits = torch.from_numpy(found.target)
    held_out = torch.arange(len(digits)) % 5 == 0
    return images[~held_out], digits[~held_out], images[held_out], digits[held_out]


def train(epochs=3):
    # as long as this library lives, until the function returns, ATen computes course::conv2d for tensors on a CPU
    library = torch.library.Library("course", "IMPL", "CPU")
    library.impl("conv2d", lambda x, weight, padding: F.conv2d(x, weight, padding=padding))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, digits, unseen, truth = (t.to(device) for t in handwritten())
    net = network(size=16).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for n in range(epochs):
        net.train()
        losses = [train_step(net, optimizer, images[i], digits[i]) for i in torch.randperm(len(images)).split(32)]
        print(
            f"epoch {n + 1}: loss {sum(losses) / len(losses):.3f}, {accuracy(net, unseen, truth):.1%} of new ones right"
        )
    return net


if __name__ == "__main__":
    torch.manual_seed(0)
    train()
