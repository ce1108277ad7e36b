"""The mean of every 3x3 window, solved. kernels/avg_pool2d.py of torchops has windows of any kind, and loads each row once."""

import triton
import triton.language as tl


# Given. A program owns BLOCK pixels of one row of y.
@triton.jit
def rows_kernel(
    x_ptr,  # in:  [planes, H, W]
    y_ptr,  # out: [planes, P, Q], P = H - 2, Q = W - 2
    H, W, P, Q,
    BLOCK: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1)
    q = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), tl.float32)
    for r in tl.static_range(3):
        for s in tl.static_range(3):
            acc += tl.load(x_ptr + plane * H * W + (p + r) * W + q + s, mask=q < Q, other=0)
    tl.store(y_ptr + plane * P * Q + p * Q + q, acc / 9, mask=q < Q)


def mean_rows(x, block=64):
    N, C, H, W = x.shape
    P, Q = H - 2, W - 2
    y = x.new_empty(N, C, P, Q)
    rows_kernel[(N * C, P, triton.cdiv(Q, block))](x, y, H, W, P, Q, BLOCK=block)
    return y


# Step 1. For one plane: the least number of bytes, and how many the programs of rows_kernel move. A float32 has 4.
def count(H, W, block):
    P, Q = H - 2, W - 2
    least = 4 * (H * W + P * Q)  #: 1a every pixel of x is loaded once, every pixel of y is stored once
    moved = 0
    for q in range(0, Q, block):  # the programs of one row
        stored = min(block, Q - q)  #: 1b how many pixels does the program store that begins at q?
        loaded = 3 * (stored + 2)  #: 1c how many pixels of x does it load, each counted once?
        moved += 4 * (stored + loaded)
    return least, P * moved


# Step 2. A program owns a tile of ROWS x COLS pixels of y.
@triton.jit
def tiles_kernel(
    x_ptr,  # in:  [planes, H, W]
    y_ptr,  # out: [planes, P, Q]
    H, W, P, Q,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1) * ROWS + tl.arange(0, ROWS)  #: 2a the rows of the tile; its columns are the next line
    q = tl.program_id(2) * COLS + tl.arange(0, COLS)
    mask = (p < P)[:, None] & (q < Q)[None, :]  #: 2b [ROWS, COLS]: which of them are pixels of y?
    first = p[:, None] * W + q[None, :]  #: 2c [ROWS, COLS]: the first pixel of each window, in a plane of x
    acc = tl.zeros((ROWS, COLS), tl.float32)
    for r in tl.static_range(3):
        for s in tl.static_range(3):
            acc += tl.load(x_ptr + plane * H * W + first + r * W + s, mask=mask, other=0)
    tl.store(y_ptr + plane * P * Q + p[:, None] * Q + q[None, :], acc / 9, mask=mask)


def mean(x, rows=8, cols=32):
    N, C, H, W = x.shape
    P, Q = H - 2, W - 2
    y = x.new_empty(N, C, P, Q)
    grid = (N * C, triton.cdiv(P, rows), triton.cdiv(Q, cols))  #: 2d planes, tiles one below the other, tiles in a row
    tiles_kernel[grid](x, y, H, W, P, Q, ROWS=rows, COLS=cols)
    return y


# Step 3. Which tile of 256 pixels?
def useful(P, Q, rows, cols):
    """The part of all lanes that own a pixel of y."""
    lanes = triton.cdiv(P, rows) * rows * triton.cdiv(Q, cols) * cols  #: 3a programs * lanes of each
    return P * Q / lanes


def choose(P, Q):
    """Of the tiles whose lanes do most, the one that loads least: the smallest rim."""
    tiles = [(rows, 256 // rows) for rows in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
    return min(tiles, key=lambda tile: (-useful(P, Q, *tile), sum(tile)))  #: 3b the best of `tiles`
