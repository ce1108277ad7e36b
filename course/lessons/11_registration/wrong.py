"""Wrong solutions of lesson 11, and what must be said of each."""

from torchops.course.lesson import Wrong

FAKE = "return x.new_empty(size(x, weight, padding))  #: 2a of which size?"
SAVE = "    ctx.save_for_backward(x, weight)\n"

WRONG = (
    Wrong(
        "schema_forgets_padding", "says", "takes two tensors and a list of two whole numbers",
        ((", int[2] padding) -> Tensor", ") -> Tensor"),),
    ),
    Wrong(
        "schema_is_no_schema", "says", "unknown type specifier",
        (("int[2] padding) -> Tensor", "tuple padding) -> Tensor"),), "torch.library.define",
    ),
    Wrong(
        "strides_trusted", "values", "as if it were contiguous",
        (("launch(x.contiguous(), weight.contiguous(), padding)", "launch(x, weight, padding)"),),
    ),
    Wrong(
        "input_written", "says", "writes to `x`",
        (("launch(x.contiguous()", "launch(x.clamp_(min=0).contiguous()"),),
    ),
    Wrong(
        "images_stay_images", "says", "Images take the place of channels",
        (("x.transpose(0, 1), dy.transpose(0, 1), (TOP, LEFT)", "x, dy, (TOP, LEFT)"),),
    ),
    Wrong(
        "fake_forgets_padding", "says", "The size of your fake is (1, 1, 2, 3)",
        ((FAKE, "return x.new_empty(size(x, weight, (0, 0)))"),),
    ),
    Wrong(
        "fake_in_float32", "says", "The dtype of your fake is torch.float32",
        ((FAKE, "return torch.empty(size(x, weight, padding), device=x.device)"),),
    ),
    Wrong(
        "fake_on_the_cpu", "says", "your fake is on cpu",
        ((FAKE, "return torch.empty(size(x, weight, padding), dtype=x.dtype)"),),
    ),
    Wrong(
        "fake_computes", "says", "A fake computes nothing",
        ((FAKE, "return implementation(x, weight, padding)"),), "conv2d_kernel[grid]",
    ),
    Wrong(
        "fake_not_registered", "says", "without torch.library.register_fake",
        (('    torch.library.register_fake("course::conv2d", fake, lib=library)\n', ""),),
    ),
    Wrong(
        "nothing_saved", "exception", "not enough values to unpack",
        ((SAVE, ""),), "x, weight = ctx.saved_tensors",
    ),
    Wrong(
        "kept_as_attributes", "says", "Give them to ctx.save_for_backward",
        ((SAVE, "    ctx.x, ctx.weight = x, weight\n"), ("x, weight = ctx.saved_tensors", "x, weight = ctx.x, ctx.weight")),
    ),
    Wrong(
        "one_gradient_too_few", "says", "returns 2 values, and the operator has 3 inputs",
        (("return dx, dw, None", "return dx, dw"),),
    ),
    Wrong(
        "gradients_swapped", "says", "Does backward return them in the order",
        (("return dx, dw, None", "return dw, dx, None"),),
    ),
    Wrong(
        "filters_not_turned", "values", "Your filters are not turned",
        (("conv2d(dy, turned,", "conv2d(dy, weight.transpose(0, 1),"),),
    ),
    Wrong(
        "padding_kept", "says", "With which padding",
        (("(R - 1 - TOP, S - 1 - LEFT)", "(TOP + 1, LEFT + 1)"),),
    ),
    Wrong(
        "both_always", "says", "ctx.needs_input_grad says which are wanted",
        (("if ctx.needs_input_grad[0]:", "if True:"),),
    ),
    Wrong(
        "backward_launches", "says", "A backward calls operators",
        (("dx = torch.ops.course.conv2d(dy, turned,", "dx = implementation(dy, turned,"),), "conv2d_kernel[grid]",
    ),
    Wrong(
        "channels_not_checked", "says", "takes a weight for 2 channels and an image of 3, and returns",
        (("if weight.shape[1] != x.shape[1]:", "if False:"),),
    ),
    Wrong(
        "argument_not_named", "says", "does not name the argument, `padding`",
        (("f\"`padding` must be 0 or more, got {padding}\"", "\"padding must be 0 or more, got -1\""),),
    ),
    Wrong(
        "value_not_said", "says", "does not say what was given: float16",
        (("f\"`weight` must be {x.dtype} as `x`, got {weight.dtype}\"", "\"`weight` has the wrong dtype\""),),
    ),
    Wrong(
        "assert_for_an_error", "says", "Let `check` raise a ValueError about `padding`",
        (('        raise ValueError(f"`padding` must be 0 or more, got {padding}")', '        assert False, "negative"'),),
        "assert False",
    ),
)  # fmt: skip
