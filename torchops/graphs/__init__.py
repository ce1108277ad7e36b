"""Graphs of operators, as torch.compile and torch.export make them, and what can be done to them.

nodes.py          questions to a node
convolutions.py   the two operators that a chain may begin with
counterparts.py   ATen's operators that torchops has one for
chains.py         a convolution, and all around it that its kernel can do as well
padding.py        pads before it
folding.py        numbers for each channel, folded into its weights
constants.py      what is computed of Parameters and buffers alone, parted from the rest
layout.py         the memory format of the convolutions
upsampling.py     interpolation as one operator
aten.py           torchops's operators in ATen's
inlining.py       a call replaced by what a function does
kernels.py        the kernels that a graph launches
reports.py        what became of a graph
"""
