"""A lesson of one step, and mistakes that students make in it."""

import torch

from torchops.course.lesson import Case, Lesson, Mistake, Step


def spec(x, n, mode, value):
    if mode == "reflect":
        return torch.nn.functional.pad(x[None], (n,) * 4, mode="reflect")[0]
    return torch.nn.functional.pad(x, (n,) * 4, value=value)


def problem(c, h, w, n, mode, block=32, strided=False):
    def inputs():
        x = torch.arange(1, c * h * w + 1, dtype=torch.float32).view(c, h, w)
        return (x.transpose(1, 2) if strided else x), n, mode, 2.5

    return Case(f"{h}x{w} by {n}, {mode}", inputs, "rows that are not neighbours" if strided else "", block)


STEP = Step(
    "1", "pad", 10, "pad", spec,
    (
        problem(1, 5, 7, 1, "constant"), problem(2, 3, 37, 2, "constant", 16), problem(2, 6, 5, 2, "reflect"),
        problem(2, 4, 6, 1, "constant", strided=True),
    ),
    (Mistake("zeros", lambda x, n, mode, value: spec(x, n, mode, 0.0), "Your border is 0; it is to be `value`."),),
    far=lambda: (torch.empty(2, 40_000, 40_000, device="meta"), 1, "constant", 0.0),
)  # fmt: skip
LESSON = Lesson("Padding, as the checker's tests have it", 10, False, (), (STEP,))
