"""Wrong solutions of lesson 12, and what must be said of each."""

from torchops.course.lesson import Wrong

FORWARD = "y = conv2d(x, self.weight, self.padding)"
BIAS = "return y if self.bias is None else y + self.bias[:, None, None]"
ZERO, BACKWARD, STEP = "    optimizer.zero_grad()\n", "    loss.backward()\n", "    optimizer.step()\n"

WRONG = (
    Wrong(
        "computed_by_torch", "nokernel", "no kernel of yours",
        ((FORWARD, "y = F.conv2d(x, self.weight, padding=self.padding)"),),
    ),
    Wrong("padding_forgotten", "shape", "expected 1x1x4x5", ((FORWARD, "y = conv2d(x, self.weight)"),)),
    Wrong("bias_forgotten", "values", "Your bias is missing", ((BIAS, "return y"),)),
    Wrong(
        "bias_along_the_row", "exception", "must match the size",
        ((BIAS, "return y + self.bias"),), "y + self.bias",
    ),
    Wrong(
        "bias_always", "exception", "NoneType",
        ((BIAS, "return y + self.bias[:, None, None]"),), "y + self.bias[:, None, None]",
    ),
    Wrong(
        "other_names", "says", "checkpoints of the one would not fit the other",
        (("padding=padding, bias=bias)\n", "padding=padding, bias=bias)\n        self.filters = self.weight\n"),),
    ),
    Wrong("options_dropped", "says", "hand **options on", (("LeNet(conv=Conv2d, **options)", "LeNet(conv=Conv2d)"),)),
    Wrong("torchops_layers", "nokernel", "no kernel of yours", (("LeNet(conv=Conv2d, **options)", "LeNet(**options)"),)),
    Wrong(
        "a_layer_for_a_class", "exception", "line",
        (("LeNet(conv=Conv2d, **options)", "LeNet(conv=Conv2d(1, 2, 5), **options)"),), "conv=Conv2d(1, 2, 5)",
    ),
    Wrong("gradients_added_up", "values", "zero_grad comes before backward", ((ZERO, ""),)),
    Wrong("no_step", "values", "Nothing has been learnt", ((STEP, ""),)),
    Wrong("zero_grad_last", "values", "Nothing has been learnt", ((ZERO + BACKWARD, BACKWARD + ZERO),)),
    Wrong(
        "step_before_backward", "says", "backward first, then step",
        ((ZERO + BACKWARD + STEP, STEP + ZERO + BACKWARD),), "loss.backward()",
    ),
    Wrong("minus_too_much", "values", "goes uphill", (("loss = F.nll_loss", "loss = -F.nll_loss"),)),
    Wrong("argmax_of_the_batch", "exception", "must match the size", ((".argmax(1)", ".argmax(0)"),), "argmax(0)"),
    Wrong("counted", "values", "the share was asked for", ((".double().mean()", ".double().sum()"),)),
    Wrong("in_training_mode", "says", "net.eval()", (("    net.eval()\n", ""),)),
)  # fmt: skip
