"""Networks built from torchops' layers. Empty so far: the first of them is LeNet."""
