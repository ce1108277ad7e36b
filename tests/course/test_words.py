"""What is said: every kind has words, with the line, and says why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from torchops.course import words as module
from torchops.course.advice import advice, tidied
from torchops.course.compare import compare
from torchops.course.memory import Memory
from torchops.course.report import Fault, Finding, Report, StepReport, Traffic
from torchops.course.words import shown, told

SOURCE = "import torch\nx = tl.load(x_ptr + i)\nwhile True:\n    pass\n"


def of(kind: str, **more: object) -> Finding:
    """A finding at line 2."""
    fault = Fault(kind, 2, **more)  # type: ignore[arg-type]
    return Finding(kind, case="5x7", fault=fault, line=2, detail=fault.detail)


SAID = {
    "loads": (of("oob_read", buffer="x_ptr", past=1), "Line 2 loads 1 element behind the end of `x_ptr` [5x7]:"),
    "stores": (of("oob_write", buffer="y_ptr", before=12), "Line 2 stores 12 elements before the start of `y_ptr` [5x7]:"),
    "race": (
        of("race", buffer="y_ptr", element=3, programs=((0, 0, 0), (1, 0, 0)), both_store=True),
        "Programs (0, 0, 0) and (1, 0, 0) both store to element 3 of `y_ptr`, line 2:",
    ),
    "race of whom": (of("race", buffer="y_ptr"), "Two programs touch `y_ptr`"),
    "uninitialised": (of("uninitialised", buffer="y_ptr", element=5), "loads element 5 of `y_ptr`, which nobody has written"),
    "undefined": (of("undefined", detail="integer division by zero"), "Line 2 divides by zero [5x7]:"),
    "undefined else": (of("undefined", detail="overflow"), "The result of line 2 is undefined"),
    "unchecked": (of("unchecked", detail="tt.histogram"), "it may be right or wrong"),
    "timeout": (
        dataclasses.replace(of("timeout", detail="5"), line=3), "Stopped after 5 s [5x7], at line 3:\n    3 | while True:",
    ),
    "timeout elsewhere": (of("timeout", detail="5"), "What takes so long there?"),
    "timeout nowhere": (Finding("timeout", detail="5"), "Stopped after 5 s. "),
    "input": (Finding("input", detail="argument 2", case="5x7"), "Argument 2 of the function has other values after the call"),
    "nokernel": (Finding("nokernel", case="5x7"), "Right, but no kernel of yours has written it [5x7]."),
    "nokernel stores": (Finding("nokernel", detail="launched"), "The kernels that you have launched store nothing."),
    "unseen": (Finding("unseen", detail="race"), "This experiment is to show a race, and has shown none"),
    "says": (Finding("says", detail="Too slow.", case="5x7"), "Too slow. [5x7]"),
    "exit": (Finding("exit"), "The file ended the process: remove exit() or os._exit()."),
    "killed": (Finding("killed", detail="20"), "Stopped after 20 s: no answer in time."),
    "crash": (Finding("crash", detail="SIGSEGV", line=2), "Python itself crashed (SIGSEGV), line 2.\n    2 | x = tl"),
    "checker": (Finding("checker", detail="Traceback"), "which is no mistake of yours"),
    "hole": (Finding("hole", line=2), "Not filled in yet, line 2:\n    2 | x = tl.load"),
    "syntax": (Finding("syntax", line=1, detail="'(' was never closed"), "Python cannot read the file: '(' was"),
    "missing": (Finding("missing", detail="the file has no function `f`"), "The file has no function `f`. Has it been renamed"),
    "import": (Finding("import", line=1, detail="NameError: name 'a' is not defined"), "could not be loaded: NameError"),
    "line that is not there": (Finding("exception", line=99, detail="ValueError: no"), "ValueError: no, line 99:"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_told(name: str) -> None:
    found, phrase = SAID[name]
    assert phrase in told(found, SOURCE)


def test_every_kind_has_words() -> None:
    kinds = {found.kind for found, _ in SAID.values()}
    assert set(module._SAID) == kinds | {"far", "lanes", "compile", "exception", "unwritten", "values", "shape"}


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory() as one:
        yield one


NAN = float("nan")
RESULTS = {
    "one dimension": (torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0]), "1 of 2 elements is wrong. The first is 1: 5, "),
    "none": (torch.tensor(5.0), torch.tensor(2.0), "1 of 1 element is wrong. It is 5, expected 2."),
    "five": (torch.ones(1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 2), "The first is (0, 0, 0, 0, 0): 1"),
    "whole numbers": (torch.tensor([[7]]), torch.tensor([[8]]), "The first is (0, 0): 7, expected 8."),
    "large numbers": (torch.tensor([1234567]), torch.tensor([7]), "1234567, expected 7."),
    "truths": (torch.tensor([True]), torch.tensor([False]), "1, expected 0."),
    "infinity": (torch.tensor([float("inf")]), torch.tensor([1.0]), "inf, expected 1."),
    "None": (None, torch.ones(2), "The function returned None: does it end with `return`?"),
    "a number": (3, torch.ones(2), "The function returned an int, expected a tensor."),
    "type": (torch.ones(2).double(), torch.ones(2), "The function returned float64, expected float32."),
    "shape": (torch.ones(2, 3), torch.ones(3, 2), "The function returned a tensor of shape 2x3, expected 3x2."),
    "one of two": (torch.ones(1), (torch.ones(1), torch.ones(1)), "returned one tensor, expected 2"),
    "three of two": ((1, 2, 3), (torch.ones(1), torch.ones(1)), "The function returned 3 results, expected 2 tensors."),
    "the second": (
        (torch.ones(1), torch.zeros(1)), (torch.ones(1), torch.ones(1)), "1 of 1 element of result 2 of 2 is wrong.",
    ),
    "shape of the second": (
        [torch.ones(1), torch.ones(2)], (torch.ones(1), torch.ones(1)), "a tensor of shape 2, expected 1 as result 2 of 2.",
    ),
    "device": (torch.ones(2, device="meta"), torch.ones(2), "a tensor on the device meta, expected cpu"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_results(name: str) -> None:
    got, want, phrase = RESULTS[name]
    assert phrase in told(compare(got, want, torch.float32), SOURCE)


def test_computed_nan_is_no_memory_that_nobody_has_written(memory: Memory) -> None:
    got = torch.empty(2)
    memory.stored(got.untyped_storage().data_ptr(), np.arange(2), 4)
    said = told(compare(got, torch.zeros(2), torch.float32, memory), SOURCE)
    assert "2 of 2 elements are wrong. The first is 0: NaN, expected 0. NaN comes of 0 / 0" in said


RIGHT = [
    torch.ones(2), torch.ones(0), torch.ones(2, 0, 3), torch.tensor([NAN, 1.0]), torch.ones(()),
    torch.ones(2, dtype=torch.uint8), (torch.ones(2), torch.zeros(1, dtype=torch.long)),
]  # fmt: skip


@pytest.mark.parametrize("got", RIGHT, ids=range(len(RIGHT)))
def test_right_results(got: Tensor | tuple[Tensor, ...]) -> None:
    want = tuple(one.clone() for one in got) if isinstance(got, tuple) else got.clone()
    assert compare(got, want, torch.float32).kind == "ok"


def test_unwritten_whole_numbers(memory: Memory) -> None:
    got = torch.empty(2, 3, dtype=torch.uint8)
    memory.stored(got.untyped_storage().data_ptr(), np.array([0, 1, 2, 3, 5]), 1)
    said = told(compare(got, torch.zeros(2, 3, dtype=torch.uint8), torch.float32, memory), SOURCE)
    assert "1 of 6 elements was never written: it holds what memory held before, here 255. The first is (1, 1)." in said


ADVICE = {
    "QQ is not defined": "No `QQ` is known here",
    "module 'triton.language' has no attribute 'laod'": "Do you mean tl.load?",
    "module 'triton.language' has no attribute 'xyzzy'": "Is it misspelt?",
    "Cannot make_shape_compatible: incompatible dimensions at index 0: 16 and 32": "Blocks of 16 and of 32 elements",
    "arange's arguments must be of type tl.constexpr": "BLOCK: tl.constexpr",
    "Mismatched type for z between then block (int32) and else block (<['32'], fp32>)": "different things in `z`",
    "Loop-carried variable z has initial type int32": "`z` changes its type or its shape in the loop",
    "unsupported AST node type: Break": "cannot be left",
    "unsupported AST node type: Lambda": "there is no Lambda in it",
    "Unsupported function referenced: <ufunc 'maximum'>": "cannot call `maximum`",
    "Unsupported function referenced: <built-in method maximum of type object at 0x7f4b>": "cannot call `maximum`",
    "Unsupported function referenced: <function helper at 0x7f4b>": "cannot call `helper`",
    "TypeError: the kernel missing 1 required positional argument: 'W'": "arguments that it was not given",
    "KeyError: 'Keyword argument BLOK was specified but unrecognised'": "no argument `BLOK`",
    "failed to specialize argument of type: list": "and no list",
    "sqrt is not defined": "In a kernel it is tl.sqrt",
    "'tensor' object has no attribute '__pow__'": "tl.sqrt(x) a root",
    "'tensor' object has no attribute 'clamp'": "no tensor of PyTorch",
    "'range' object has no attribute 'type'": "tl.arange(0, BLOCK)",
    "arange() missing 1 required positional argument: 'end'": "It wants both ends",
    "'<=' not supported between instances of 'int' and 'tensor'": "tl.maximum(a, b)",
    "'scf.if' op operand #0 must be 1-bit signless integer, but got 'tensor<4xi1>'": "use tl.where",
    "Ternary expression with dynamic condition has inconsistent types int32 and fp32": "chooses lane by lane",
    "Mask argument cannot be block type if pointer argument is not a block": "which part of the address",
    "Value argument cannot be block type if pointer argument is not a block": "One address takes one value",
    "what nobody has seen": "",
}


@pytest.mark.parametrize("said", ADVICE)
def test_advice(said: str) -> None:
    assert ADVICE[said] in advice(said)
    assert bool(advice(said)) == bool(ADVICE[said])


def test_tidied() -> None:
    assert tidied("IncompatibleTypeErrorImpl('invalid operands of type pointer<fp32> and triton.language.int32')") == (
        "invalid operands of type pointer<fp32> and tl.int32"
    )
    assert tidied("TypeError: dynamic_func() missing 'W'.") == "TypeError: the kernel missing 'W'"
    assert len(tidied("word " * 200)) <= 300
    assert tidied("first\nsecond") == "first"


def report(*findings: Finding, done: bool = True, printed: tuple[str, ...] = ()) -> Report:
    step = StepReport("1", "scatter", done, 0.25, findings)
    return Report("x.py", "unpooling", "ttsem", (step,), printed=printed)


def test_what_was_not_checked_is_said() -> None:
    said = shown(report(Finding("ok", unchecked=("offsets beyond 2^31", "races: too many")), Finding("ok")), SOURCE)
    assert "Not checked: offsets beyond 2^31 (step 1)." in said
    assert "Not checked: races: too many (step 1)." in said
    assert "2 cases" in said


def test_bytes_are_those_of_the_last_launch() -> None:
    traffic = Traffic("copy_kernel", 1, 2048, 1024)
    said = shown(report(Finding("ok", traffic=(traffic,)), Finding("ok")), SOURCE)
    assert "Done. copy_kernel: 1 program moves 2,048 bytes, 2.00 of the least." in said


def test_what_is_printed_is_shown_in_part() -> None:
    said = shown(report(Finding("ok"), printed=tuple(map(str, range(30)))), SOURCE)
    assert said.endswith("  19\n  ... and 10 lines more")


def test_reports_travel_as_json() -> None:
    found = compare(torch.tensor([[NAN, 2.0]]), torch.tensor([[1.0, float("inf")]]), torch.float32)
    found = dataclasses.replace(
        found, fault=Fault("race", programs=((0, 0, 0), (1, 2, 3))), traffic=(Traffic("k", 1, 2, 3),)
    )
    sent = report(found, done=False, printed=("a", "b"))
    text = json.dumps(sent.to_json(), allow_nan=False)
    back = Report.from_json(json.loads(text))
    assert repr(back) == repr(sent)
    assert back.verdict == "unwritten"
