"""What Triton and Python say of mistakes that many make, and what it means."""

from __future__ import annotations

import difflib
import re

_PYTHON = "A kernel looks like Python, and is a small part of it: there is no {0} in it."
_KNOWN = """
    abs arange atomic_add cdiv constexpr device_print dot exp float16 float32 full int32 int64 load log max maximum min minimum
    num_programs program_id range sigmoid sqrt static_range store sum trans where zeros
"""

_ADVICE = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        # of a kernel that Triton cannot compile
        (
            r"ambiguous|scf.if' op",
            "An `if` takes one value, and this is a whole block of them: use tl.where, or put the condition into the "
            "mask.",
        ),
        (
            r"Ternary expression",
            "`a if c else b` takes one value for the whole block: tl.where(c, a, b) chooses lane by lane.",
        ),
        (
            r"scf.condition' op",
            "A `while` takes one value, and this is a whole block of them: loop as often as the longest lane needs, "
            "and mask the others.",
        ),
        (
            r"multiple comparison",
            "In Python & binds closer than <: put every comparison into parentheses, (a >= 0) & (a < n). And 0 <= a <"
            " n is two comparisons.",
        ),
        (r"MatMult", "Blocks have no @: tl.dot(a, b, acc) is acc + a @ b."),
        (r"power of 2", "Blocks have 2, 4, 8, ... elements: take the next power of two, and mask what is too much."),
        (
            r"^(abs|all|any|divmod|pow|round|sorted|sum|zip|enumerate|map|list) is not defined",
            "Python's own functions are not there in a kernel. Those of tl are: tl.abs, tl.sum, ...",
        ),
        (
            r"^(\w+) is not defined",
            "No `{0}` is known here. Is it misspelt, or set in one branch of an `if` only? A kernel knows its "
            "arguments and what it has set itself.",
        ),
        (
            r"Cannot access global variable (\w+)",
            "A kernel does not see the variables of the file: give it `{0}` as an argument, {0}: tl.constexpr.",
        ),
        (
            r"incompatible dimensions at index \d+: (\d+) and (\d+)",
            "Blocks of {0} and of {1} elements stand in one expression: they must be of one size. A column x[:, None]"
            " and a row x[None, :] make a matrix.",
        ),
        (
            r"Mask argument cannot be block type",
            "The address is one number, and the mask a whole block: which part of the address is to differ from lane "
            "to lane?",
        ),
        (
            r"cannot be block type",
            "One address takes one value, and this is a block of them: add it up, or store to a block of addresses.",
        ),
        (
            r"Expected pointer argument to have shape|shape mismatch|annot broadcast",
            "Pointers, values and mask of a load or store are blocks of one shape.",
        ),
        (
            r"must be of type tl.constexpr|Shape element .* constexpr",
            "How large a block is must be known when the kernel is compiled: annotate the argument, BLOCK: "
            "tl.constexpr.",
        ),
        (
            r"Mismatched type for (\w+) between then block",
            "The branches of the `if` leave different things in `{0}`: it must be of one type and one shape after "
            "both.",
        ),
        (
            r"Loop-carried variable (\w+)",
            "`{0}` changes its type or its shape in the loop. If it becomes a block, begin with one, tl.full((BLOCK,), "
            "value, tl.float32) say; if it was one, keep it one.",
        ),
        (
            r"Unsupported ptr type",
            "Memory is addressed by a pointer: x_ptr + offsets, where x_ptr is an argument that a tensor is given for.",
        ),
        (
            r"operands of type pointer|(\w+) and pointer<",
            "A pointer is moved by whole numbers, and nothing else: // divides them, / gives a float. Compare "
            "offsets, not pointers. Where the kernel wants a number, give it a number and no tensor.",
        ),
        (
            r"'tt.(load|store)' op operand #\d must be 1-bit",
            "A mask is true or false: combine comparisons by & and |, not by arithmetic.",
        ),
        (
            r"other. cannot be provided without .mask",
            "`other` is what lanes get that are masked off: it needs a mask.",
        ),
        (
            r"__setitem__",
            "Blocks and pointers cannot be assigned to by index: tl.store(y_ptr + offsets, value, mask=mask) writes.",
        ),
        (
            r"unsupported tensor index",
            "The elements of a block cannot be picked out: load what is needed, tl.load(x_ptr + i). Only [:, None] "
            "and [None, :] are there.",
        ),
        (r"has no attribute '__r?pow__'", "Blocks have no **: x * x is a square, and tl.sqrt(x) a root."),
        (
            r"'tensor' object has no attribute",
            "A block is no tensor of PyTorch: nearly all that can be done with it stands in tl, tl.maximum(x, 0) say.",
        ),
        (
            r"'range' object has no attribute|cannot convert range",
            "`range` is for loops: the block 0, 1, ..., BLOCK - 1 is tl.arange(0, BLOCK).",
        ),
        (r"arange\(\) missing", "It wants both ends, tl.arange(0, BLOCK)."),
        (
            r"not supported between instances of 'int' and 'tensor'",
            "tl.max(x, axis=0) goes through one block: of two blocks, tl.maximum(a, b) gives the larger of each two.",
        ),
        (
            r"Did you forget to add @triton.jit",
            "A kernel can call functions that have @triton.jit above them. And a pointer is not indexed: "
            "tl.load(x_ptr + i) in place of x_ptr[i]. Of two blocks, tl.maximum takes the larger, and not tl.max.",
        ),
        (
            r"Unsupported function referenced: <(?:function|built-in method|ufunc) '?([\w.]+)",
            "A kernel cannot call `{0}` of Python, NumPy or PyTorch: use what tl has, or write a function with "
            "@triton.jit above it.",
        ),
        (
            r"must be real number, not tensor",
            "The functions of `math` take one number: for blocks there are tl.sqrt, tl.exp, ...",
        ),
        (r"(int|float)\(\) argument must be", "{0}(...) is Python's: in a kernel it is .to(tl.{0}32)."),
        (r"node type: (Break|Continue)", "A loop in a kernel cannot be left: let it run to its end, and mask."),
        (r"node type: (\w+)", _PYTHON),
        (
            r"only tuple comprehensions|'tuple' object has no attribute",
            "There are no lists in a kernel: add up in one block, acc += x.",
        ),
        (r"is not string", 'Printing begins with a text: tl.device_print("h", h).'),
        (
            r"equal reduction dimensions",
            "tl.dot multiplies [M, K] by [K, N]: the last side of the first and the first side of the second are one."
            " tl.trans turns a block.",
        ),
        (r"cannot convert None of type", "It is None: was it given to the kernel?"),
        (r"load\(\) got an unexpected keyword", "tl.load takes a pointer, mask= and other=."),
        (r"store\(\) got an unexpected keyword", "tl.store takes a pointer, a value and mask=."),
        # of a launch
        (
            r"the kernel missing .*: (.*)",
            "It has arguments that it was not given: count those of its head and those of the launch.",
        ),
        (
            r"the kernel got multiple values for argument '(\w+)'",
            "Before `{0}` there are more arguments in the launch than in the kernel's head.",
        ),
        (r"the kernel takes .* positional arguments?", "Count the arguments of its head and those of the launch."),
        (r"Keyword argument (\w+) was specified but unrecognised", "The kernel has no argument `{0}`."),
        (r"Cannot call @triton.jit'd outside", "A kernel is launched on a grid: kernel[grid](...)."),
        (
            r"'float' object cannot be interpreted as an integer",
            "A grid counts programs: triton.cdiv(n, BLOCK), not n / BLOCK.",
        ),
        (r"object of type 'int' has no len", "A grid is a tuple, also where it has one side: (n,)."),
        (
            r"'function' object is not subscriptable",
            "Kernels are launched on a grid, other functions are not: does @triton.jit stand above it?",
        ),
        (r"failed to specialize argument of type: (\w+)", "A kernel takes tensors and numbers, and no {0}."),
        (
            r"size of tensor a \(\d+\) must match",
            "torch lines shapes up at their last sides: [K] beside [K, C] has to be [K, 1], which x[:, None] makes of it.",
        ),
        # of a file
        (
            r"name 'torch' is not defined",
            "`import torch` is missing above; x.new_zeros(...) and x.new_empty(...) need none.",
        ),
        (r"No module named '([\w.]+)'", "Is it misspelt? A lesson needs torch and triton, and nothing else."),
    )
)


def advice(said: str) -> str:
    """What to do about a message of Triton's or of Python's; "" where nothing is known."""
    if misspelt := re.search(r"module 'triton.language' has no attribute '(\w+)'", said):
        near = difflib.get_close_matches(misspelt[1], _KNOWN.split(), 1)
        return (
            f"Do you mean tl.{near[0]}?"
            if near
            else "Is it misspelt? The page names the functions of tl that this lesson needs."
        )
    if (unknown := re.search(r"^(\w+) is not defined", said)) and unknown[1] in _KNOWN.split():
        return f"In a kernel it is tl.{unknown[1]}."
    for pattern, words in _ADVICE:
        if found := pattern.search(said):
            return words.format(*(group or "" for group in found.groups()))
    return ""


def tidied(said: str) -> str:
    """A message without what only its makers understand, and without the stop at its end."""
    said = re.sub(r"^\w*Error\w*\(['\"](.*)['\"]\)$", r"\1", said.strip(), flags=re.DOTALL)
    said = said.replace("dynamic_func()", "the kernel").replace("constexpr[", "[").replace("triton.language.", "tl.")
    said = re.sub(r" at 0x[0-9a-f]+>", ">", re.sub(r" of type object at 0x[0-9a-f]+>", ">", said))
    first = said.splitlines()[0] if said else ""
    if len(first) > 160:
        first = re.split(r"(?<=[a-z])\. |! ", first)[0]
    return first[:300].rstrip(".!: ")
