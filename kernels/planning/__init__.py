"""Which block sizes a launch takes, and why, in plain Python that knows no tensors."""
