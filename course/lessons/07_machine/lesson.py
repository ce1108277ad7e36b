"""What the checker asks of lesson 7, the machine: bytes that are counted, bytes that are saved, and lanes that do something."""

import math

import torch

import torchops
from torchops import reference
from torchops.course.lesson import Case, Complaint, Lesson, Mistake, Picture, Step
from torchops.course.trace import touched, traffic

LANES = 256
TILES = tuple((rows, LANES // rows) for rows in (1, 2, 4, 8, 16, 32, 64, 128, 256))


def counted(n, c, h, w):
    """Every pixel of x holds its number; so does the mean of the window around it."""
    return torch.arange(1, n * c * h * w + 1, dtype=torch.float32).view(n, c, h, w)


def spec(x, *_):
    return reference.avg_pool2d(x, 3, stride=1)


def mirror(x, *_):
    return torchops.avg_pool2d(x, 3, stride=1, divisor_override=9)


def whose(inputs, first, got, want):
    """Which window a pixel holds the mean of, where x counts its pixels."""
    x = inputs[0]
    if not torch.equal(x.flatten(), torch.arange(1.0, x.numel() + 1)) or got != int(got):
        return ""
    h, w = x.shape[2:]
    plane, pixel = divmod(int(got) - 1, h * w)
    row, column = pixel // w - 1, pixel % w - 1
    if not (0 <= plane < x.shape[0] * x.shape[1] and 0 <= row < h - 2 and 0 <= column < w - 2):
        return ""
    n, c, p, q = first
    other = "" if plane == n * x.shape[1] + c else f" of plane {plane}"
    return f"That is the mean of the window that begins at ({row}, {column}){other}; this one begins at ({p}, {q})."


# Step 1: the count of the student beside the formula; and the formula beside what a run of the kernel has moved.
def bytes_of_rows(x, block, rim=2, loads=3, whole=False, full=False):
    h, w = x.shape[2:]
    p, q = h - 2, w - 2
    stores = [block if whole else min(block, q - first) for first in range(0, q, block)]
    moved = 4 * p * sum(stored + loads * ((block if full else stored) + rim) for stored in stores)
    return torch.tensor([4 * (h * w + p * q), moved])


def count(function, x, block):
    """The kernel runs too, so that what it moves can be compared."""
    function.__globals__["mean_rows"](x, block)
    answer = function(*x.shape[2:], block)
    if not isinstance(answer, tuple) or len(answer) != 2 or not all(isinstance(one, int) for one in answer):
        raise Complaint(f"`count` returns two whole numbers, the least and the moved bytes; yours returned {answer!r}")
    return torch.tensor(answer)


def as_traced(launches, x, block):
    last, want = traffic(launches[-1]), bytes_of_rows(x, block).tolist()
    if [last.least, last.moved] != want:
        raise Complaint(
            f"`rows_kernel` is given, and yours moves {last.moved:,} bytes, not {want[1]:,}: leave it as it was"
        )


def which(inputs, first, got, want):
    return ("That is the least number of bytes.", "That is the number of bytes that all programs move.")[first[0]]


def planes_of(h, w, block, why=""):
    return Case(f"{h}x{w} pixels, blocks of {block}", lambda: (counted(1, 1, h, w), block), why)


COUNT = Step(
    "1", "count the bytes", 5, "count", bytes_of_rows,
    (
        planes_of(6, 10, 4, "the picture of the page"),
        planes_of(9, 24, 8, "a last block that has fewer pixels"),
        planes_of(5, 12, 64, "a block that is longer than a row"),
    ),
    (
        Mistake(
            "pixels", lambda x, block: bytes_of_rows(x, block) // torch.tensor([4, 1]),
            "Yours counts pixels, and a float32 has 4 bytes.",
        ),
        Mistake(
            "full loads", lambda x, block: bytes_of_rows(x, block, full=True),
            "Yours loads for full blocks. The last of a row is cut off by the mask: it loads for what it stores.",
        ),
        Mistake(
            "nine", lambda x, block: bytes_of_rows(x, block, rim=0, loads=9),
            "Yours counts nine loads a pixel. Neighbours ask for the same pixels: count each pixel once a program.",
        ),
        Mistake(
            "no rim", lambda x, block: bytes_of_rows(x, block, rim=0),
            "Yours leaves out the rim: the windows of a block reach two pixels beyond its last one.",
        ),
        Mistake(
            "one row", lambda x, block: bytes_of_rows(x, block, loads=1),
            "Yours counts one row of x. The windows of a row of y lie over three.",
        ),
        Mistake(
            "whole", lambda x, block: bytes_of_rows(x, block, whole=True),
            "Yours counts blocks that are full. The last of a row is cut off by the mask, and what is masked moves nothing.",
        ),
    ),
    (
        "x has H * W pixels, and y has P * Q. Each takes 4 bytes.",
        "How many pixels are left of a row when a program begins at q? It stores BLOCK of them, or what is left.",
        "Draw a block of 4 pixels of y, and the windows over x that it needs: 3 rows of 6 pixels.",
    ),
    which, call=count, kernels=False, after=as_traced,
)  # fmt: skip


# Step 2: the same values for fewer bytes.
def bytes_of_tiles(p, q, rows, cols):
    """What tiles of one plane move, and the least."""
    heights = [min(rows, p - first) for first in range(0, p, rows)]
    widths = [min(cols, q - first) for first in range(0, q, cols)]
    moved = sum(h * w + (h + 2) * (w + 2) for h in heights for w in widths)
    return 4 * moved, 4 * (p * q + (p + 2) * (q + 2))


def few_bytes(launches, x, rows, cols):
    """A tile loads its pixels and a rim, and nothing twice."""
    moved, least = bytes_of_tiles(x.shape[2] - 2, x.shape[3] - 2, rows, cols)
    last = traffic(launches[-1])
    if last.moved > moved * x.shape[0] * x.shape[1]:
        raise Complaint(
            f"Right, but yours moves {last.moved / last.least:.2f} of the least. Tiles of {rows}x{cols} move "
            f"{moved / least:.2f} of it: the rows of x between two rows of a tile are loaded once for both. "
            "Does one program own ROWS rows?"
        )


def images(n, c, h, w, rows, cols, why=""):
    def inputs():
        return torch.randint(0, 100, (n, c, h, w)).float(), rows, cols

    return Case(f"{h}x{w} pixels, tiles of {rows}x{cols}", inputs, why)


def many():
    return torch.empty(40, 64, 1024, 1024, device="meta"), 8, 128


def real(rows, cols):
    return Case(f"{rows}x{cols}", lambda: (torch.empty(1, 64, 226, 226), rows, cols))


def narrow(x, *_):
    """Rows of x taken for as long as those of y."""
    n, c, h, w = x.shape
    flat, p, q = x.reshape(n * c, h * w), torch.arange(h - 2)[:, None], torch.arange(w - 2)
    taps = [flat[:, p * (w - 2) + q + r * w + s] for r in range(3) for s in range(3)]
    return (sum(taps) / 9).view(n, c, h - 2, w - 2)


TILE = Step(
    "2", "own a tile", 7, "mean", spec,
    (
        Case("6x10 pixels, tiles of 2x4", lambda: (counted(1, 1, 6, 10), 2, 4), "the picture of the page"),
        images(1, 1, 7, 11, 2, 4, "tiles that reach beyond the last row and column"),
        images(2, 3, 9, 20, 4, 16, "several planes"),
        images(1, 2, 3, 3, 8, 32, "a single window a plane, in a tile that is much larger"),
        images(1, 1, 40, 70, 16, 32, "a tile as it is in earnest"),
    ),
    (Mistake("narrow", narrow, "Rows of x lie W pixels apart, and Q is the length of a row of y."),),
    (
        "q is a row of COLS columns: p is the same along the other axis of the grid. The axes are (plane, rows, columns).",
        "A column of conditions & a row of conditions is a rectangle of conditions: (p < P)[:, None] & ...",
        "The window of pixel (p, q) of y begins at pixel (p, q) of x, which is p * W + q pixels behind the first.",
    ),
    whose, far=many, mirror=mirror, after=few_bytes,
    look=(real(1, 256), real(16, 32), real(32, 32), real(32, 64), real(64, 64), real(64, 128), real(128, 128)),
)  # fmt: skip


# Step 3: the tile of 256 lanes that suits an image.
def chosen(function, x):
    """The mean by the tile that is chosen."""
    p, q = x.shape[2] - 2, x.shape[3] - 2
    check_useful(function.__globals__["useful"], p, q)
    answer = function(p, q)
    if answer not in TILES:
        raise Complaint(f"`choose({p}, {q})` returns one of `tiles`, (rows, columns); yours returned {answer!r}")
    return function.__globals__["mean"](x, *answer)


def check_useful(useful, p, q):
    """A choice by a wrong share would be told of its tile, and not of the line that is wrong."""
    for rows, cols in TILES:
        grid = math.ceil(p / rows), math.ceil(q / cols)
        try:
            found = useful(p, q, rows, cols)
        except ZeroDivisionError:
            raise Complaint(
                f"`useful({p}, {q}, {rows}, {cols})` finds no lanes. A tile that hangs over has its lanes, too."
            ) from None
        if abs(found - share(p, q, rows, cols)) > 1e-9:
            raise Complaint(
                f"`useful({p}, {q}, {rows}, {cols})` is {found:.3f}, expected {share(p, q, rows, cols):.3f}: `mean` launches "
                f"{grid[0]} x {grid[1]} programs a plane there, each with {rows * cols} lanes, for {p * q} pixels."
            )


def share(p, q, rows, cols):
    return p * q / (math.ceil(p / rows) * rows * math.ceil(q / cols) * cols)


def well_chosen(launches, x):
    last, (p, q) = launches[-1], (x.shape[2] - 2, x.shape[3] - 2)
    programs = math.prod(last.grid)
    stored = sum(map(len, touched(last, "y_ptr")[1].values()))
    most = max(share(p, q, *tile) for tile in TILES)
    if stored / (programs * LANES) < most - 1e-9:
        raise Complaint(
            f"Right, but {programs} programs of {LANES} lanes store {stored} pixels: {stored / programs / LANES:.0%} of the "
            f"lanes do something, and the others are masked off. Another of the tiles has {most:.0%}."
        )
    fewest = min(bytes_of_tiles(p, q, *tile) for tile in TILES if share(p, q, *tile) > most - 1e-9)
    found = traffic(last)
    if found.moved > fewest[0]:
        raise Complaint(
            f"Right, and no tile has fewer idle lanes. But yours moves {found.moved / found.least:.2f} of the least, and "
            f"another tile with as few moves {fewest[0] / fewest[1]:.2f}: which has the smaller rim?"
        )


def sized(p, q, why=""):
    return Case(f"{p}x{q} windows", lambda: (torch.randint(0, 100, (1, 1, p + 2, q + 2)).float(),), why)


CHOOSE = Step(
    "3", "choose the tile", 5, "choose", spec,
    (
        sized(14, 14, "the last stage of many networks: a square tile"),
        sized(1, 300, "a single row: a tile of one"),
        sized(8, 56, "several tiles have no idle lane: their rims differ"),
        sized(7, 7, "an image that is smaller than a tile"),
        sized(48, 33, "one column too many for two blocks of 16"),
    ),
    (),
    (
        "How many programs does `mean` launch for a plane? Each of them has rows * cols lanes.",
        "min(tiles, key=lambda tile: ...) takes the first of the smallest. A key may be a pair: its second number decides "
        "where first ones are equal.",
        "The rim of a tile is larger the longer its sides are together: sum(tile).",
    ),
    whose, call=chosen, mirror=mirror, after=well_chosen,
)  # fmt: skip

PICTURES = (
    Picture(
        "rows", "A program owns 4 pixels of a row, and loads three rows for them", "1", lambda: (counted(1, 1, 6, 10), 4),
        {"x_ptr": "x: pixels it loads"}, {"y_ptr": "y: pixels it stores"}, ((0, 0, 0), (0, 1, 0), (0, 1, 1)),
    ),
    Picture(
        "tiles", "A program owns a tile of 2x4 pixels, and loads it with a rim", "2", lambda: (counted(1, 1, 6, 10), 2, 4),
        {"x_ptr": "x: pixels it loads"}, {"y_ptr": "y: pixels it stores"}, ((0, 0, 0), (0, 0, 1), (0, 1, 0)),
    ),
)  # fmt: skip

LESSON = Lesson("Reading the machine", 20, False, ("kernels/avg_pool2d.py",), (COUNT, TILE, CHOOSE), PICTURES)
