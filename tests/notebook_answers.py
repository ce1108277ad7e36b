"""A wrong answer to every exercise of the notebooks, as people give them, and a phrase of what the check must say."""

from __future__ import annotations

WRONG: dict[str, tuple[str, str]] = {
    "gradient_x": (
        """
def gradient_x(x):
    rows = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    return (rows[..., :-2] - rows[..., 2:]) / 8
""",
        "left minus right",
    ),
    "flat_edges": (
        """
def flat_edges(x):
    gx, gy = torchops.spatial_gradient(x)[0]
    return torch.where(gx.abs() >= gy.abs(), torchops.sobel(x, eps=0.0)[0], 0.0)
""",
        "these are the others",
    ),
    "places": (
        """
def places(n, k, stride, padding, dilation):
    return (n + 2 * padding - k) // stride + 1
""",
        "dilation 4",
    ),
    "normalise": (
        """
def normalise(x, eps=1e-5):
    dims = (1, 2, 3)
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(dims, keepdim=True) + eps).sqrt()
""",
        "takes every image by itself",
    ),
    "parameters": (
        """
parameters = {
    "first convolution": 208,
    "second convolution": 8 * 16 * 25,
    "first fully connected": 256 * 64 + 64,
    "second fully connected": 650,
}
""",
        "second convolution: that is without the biases",
    ),
    "read": (
        """
def read(strip):
    windows = strip.unfold(2, 28, 28).reshape(5, 1, 28, 28)
    return "".join(str(int(k)) for k in net(normalised(windows)).argmax(1))
""",
        "are the windows images",
    ),
    "field": (
        """
def field(layers):
    size = 1
    for window, stride in layers:
        size += window - 1
    return size
""",
        "behind a pool, a step is 2 pixels wide",
    ),
    "covered": (
        """
def covered(image, label, size=6, step=2):
    places = range(0, 28 - size + 1, step)
    lost = torch.zeros(len(places), len(places))
    whole = net.predict(image)[label]
    for row, top in enumerate(places):
        for column, left in enumerate(places):
            changed = image.clone()
            changed[:, left : left + size, top : top + size] = 0
            lost[row, column] = whole - net.predict(changed)[label]
    return lost
""",
        "rows and columns are exchanged",
    ),
    "frozen": (
        """
def frozen(old, classes):
    net = copy.deepcopy(old)
    net.classifier = lenet(classes).classifier
    return net
""",
        "nothing is frozen",
    ),
    "difference": (
        """
def difference(ours, theirs):
    import statistics

    pairs = [p - q for p, q in zip(ours, theirs, strict=True)]
    return statistics.mean(pairs), statistics.stdev(pairs)
""",
        "divide by the square root of n",
    ),
    "put_back": (
        """
def put_back(values, offsets):
    result = torch.zeros(2 * values.shape[0], 2 * values.shape[1])
    for p in range(values.shape[0]):
        for q in range(values.shape[1]):
            offset = int(offsets[p, q])
            result[2 * p + offset % 2, 2 * q + offset // 2] = values[p, q]
    return result
""",
        "every value is in its window",
    ),
    "iou": (
        """
def iou(said, truth, k):
    return ((said == k) & (truth == k)).sum() / (said == k).sum().clamp(min=1)
""",
        "you divide by what is said alone",
    ),
    "add_noise": (
        """
def add_noise(x, t, noise):
    return x + model.noise[t].view(-1, 1, 1, 1) * noise
""",
        "the image itself has to fade",
    ),
    "quality": (
        """
def quality(counts, seeds):
    drawn = [model.sample(steps=count, eta=0.0, seeds=seeds) for count in counts]
    return [torch.cdist(x.flatten(1), images.flatten(1)).mean() for x in drawn]
""",
        "this is the distance to all digits",
    ),
}
"""By the exercise's name."""
