"""The `torchops` command. Needs the extra `cli`; what trains networks, the extra `models` too.

console.py      where commands print and how they fail
ops.py          the operators: edges of an image file, a check of this machine, a look into the kernels
tune.py         block sizes, by measurement or by the model
precompile.py   kernels compiled ahead, packed and unpacked
networks.py     what the commands of the networks share; they are train.py, predict.py, look.py, draw.py,
                compare.py
export.py       a trained network for other runtimes: ONNX, ATen's operators alone, C++
options.py      the options of train in the shell, from the fields of models/options.py
course.py       the course: lessons and their files; course_check.py and course_watch.py check what students write, and
                course_look.py shows it; they share course_shared.py. keys.py reads single keys of a terminal
demo.py         the demo; its pictures are drawn by demo_pictures.py
"""

from . import (
    compare,
    course,
    course_check,
    course_look,
    course_watch,
    demo,
    draw,
    export,
    look,
    ops,
    precompile,
    predict,
    train,
    tune,
)
from .console import app

__all__ = [
    "app",
    "compare",
    "course",
    "course_check",
    "course_look",
    "course_watch",
    "demo",
    "draw",
    "export",
    "look",
    "ops",
    "precompile",
    "predict",
    "train",
    "tune",
]
