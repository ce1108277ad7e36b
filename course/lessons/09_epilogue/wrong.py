"""Wrong solutions of lesson 9, and what their students must be told."""

from torchops.course.lesson import Wrong

RELU = "y = tl.maximum(y, 0.0)"
BIAS = "acc += tl.load(bias_ptr + k)"
RESIDUAL = "acc += tl.load(residual_ptr + plane * P * Q + m, mask=mask)"
ACTIVATED = "    acc = activate(acc, ACTIVATION)\n"
FOLDED = "return weight * scale[:, None, None, None], (bias - mean) * scale + beta"
IN_ONE = (
    'weight, bias = fold(weight, bias, norm)\n    return conv2d(x, weight, bias, stride, padding, "relu", block=block)'
)

WRONG = (
    Wrong("bias_of_pixels", "oob_read", "behind the end of `bias_ptr`",
          ((BIAS, "acc += tl.load(bias_ptr + m, mask=mask)"),), "bias_ptr + m"),
    Wrong("bias_of_planes", "oob_read", "1 element behind the end of `bias_ptr`",
          ((BIAS, "acc += tl.load(bias_ptr + plane)"),), "bias_ptr + plane"),
    Wrong("bias_of_images", "values", "whose bias is",
          ((BIAS, "acc += tl.load(bias_ptr + n)"),)),
    Wrong("relu_by_if", "compile", "An `if` takes one value",
          ((RELU, "if y < 0:\n            y = 0.0"),), "if y < 0"),
    Wrong("relu_is_abs", "values", "expected 0",
          ((RELU, "y = tl.abs(y)"),)),
    Wrong("activated_before_bias", "values", "the activation is last",
          ((ACTIVATED, ""), ("    if bias_ptr is not None:\n", f"{ACTIVATED}    if bias_ptr is not None:\n"))),
    Wrong("folded_without_eps", "values", "leaves out eps",
          ((FOLDED, "scale = gamma / torch.sqrt(var)\n    " + FOLDED),)),
    Wrong("folded_bias_not_scaled", "values", "Your bias is not scaled",
          ((FOLDED, "return weight * scale[:, None, None, None], bias - mean * scale + beta"),)),
    Wrong("folded_mean_forgotten", "values", "does not take away the mean",
          ((FOLDED, "return weight * scale[:, None, None, None], bias * scale + beta"),)),
    Wrong("folded_weight_forgotten", "values", "Your weight is not scaled",
          ((FOLDED, "return weight, (bias - mean) * scale + beta"),)),
    Wrong("folded_along_columns", "exception", "must match the size",
          ((FOLDED, "return weight * scale, (bias - mean) * scale + beta"),), "weight * scale"),
    Wrong("folded_in_two_passes", "says", "Right, but in 2 launches",
          ((IN_ONE, "mean, var, gamma, beta, eps = norm\n    scale = gamma / torch.sqrt(var + eps)\n"
                    "    y = conv2d(x, weight, bias, stride, padding, block=block)\n"
                    '    return another_pass(y, scale, beta - mean * scale, "relu", block=block)'),)),
    Wrong("residual_unmasked", "oob_read", "behind the end of `residual_ptr`",
          ((RESIDUAL, "acc += tl.load(residual_ptr + plane * P * Q + m)"),), "residual_ptr + plane"),
    Wrong("residual_behind_activation", "values", "It is added before",
          ((ACTIVATED, ""), ("    if residual_ptr is not None:\n", f"{ACTIVATED}    if residual_ptr is not None:\n"))),
    Wrong("residual_of_first_plane", "values", "expected",
          ((RESIDUAL, "acc += tl.load(residual_ptr + m, mask=mask)"),)),
    Wrong("rounded_twice", "values", "round once, at the store",
          ((RESIDUAL, "acc = acc.to(y_ptr.dtype.element_ty) + tl.load(residual_ptr + plane * P * Q + m, mask=mask)\n"
                      "        acc = acc.to(tl.float32)"),)),
    Wrong("leaky_is_relu", "values", "That is relu",
          (("y = tl.where(y > 0, y, 0.01 * y)", "y = tl.where(y > 0, y, 0.0)"),)),
    Wrong("silu_is_sigmoid", "values", "silu is y times it",
          (("y = y * tl.sigmoid(y)", "y = tl.sigmoid(y)"),)),
)  # fmt: skip
