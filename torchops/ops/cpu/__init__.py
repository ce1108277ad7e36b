"""What the operators do on a CPU beyond a call of ATen's: docs/explanation/cpu.md says why, README.md what to know before
changing it.

quick.py       calls that nobody watches: straight to ATen's own functions
threads.py     pieces of an op on several threads, each through all of its calls
tiles.py       pieces that stay in cache; the numbers that decide how large they are
separable.py   pools along rows and then along columns
sobel.py       a tile as one line of memory, which is added to itself, shifted
turned.py      planes as channels, along which ATen's loops are vectorized
unpooling.py   values put back, and found again, by their indices
"""
