"""How steps of lesson 11 are computed, by an operator that is registered; what PyTorch says of it is said in plain words."""

import contextlib
import re
import warnings
from unittest import mock

import torch

from torchops.course.lesson import Complaint

NAMES = ("x", "weight", "padding")


def differentiated(conv):
    """The gradients of a convolution: of x, of weight, or of both."""

    def gradients(x, weight, padding, dy, wanted):
        given = {"x": x.clone(), "weight": weight.clone()}
        for name in wanted:
            given[name].requires_grad_()
        y = conv(given["x"], given["weight"], padding)
        return torch.autograd.grad(y, [given[name] for name in wanted], dy)

    return gradients


@contextlib.contextmanager
def registered(function):
    """The student's operator, as long as the block lasts; `function` is one of the file's, and `register` lies beside it."""
    library = torch.library.Library("course", "FRAGMENT")
    try:
        tell(function.__globals__["register"], library)
        yield torch.ops.course.conv2d.default
    finally:
        library._destroy()


def tell(register, library):
    try:
        register(library)
    except (RuntimeError, ValueError) as error:
        # behind the first sentence stands where to read more
        raise said(
            f"PyTorch does not take what `register` tells it: {first_line(error).split(';')[0]}", error
        ) from None


def said(words, error):
    """A complaint about an error, which knows the line that the error comes from."""
    return Complaint(words).with_traceback(error.__traceback__)


def first_line(error):
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def opcheck(op, args, test):
    """PyTorch's own tests of a registration; what they say is cut to its heart."""
    try:
        torch.library.opcheck(op, args, test_utils=test)
    except Exception as error:
        heart = re.sub(r"^opcheck.*? failed with | \(scroll up for stack trace\)$", "", str(error), flags=re.S)
        written = re.search(r"Argument (\w+) is not defined as mutable but was mutated", heart)
        if written:
            raise Complaint(
                f"Your operator writes to `{written[1]}`, and its schema promises that it does not. Who compiles a network "
                f"relies on that: what has been computed from `{written[1]}` before would be computed from other values."
            ) from None
        raise Complaint(f"torch.library.opcheck is not content ({test}): {heart}") from None


def check_schema(op):
    types = [str(argument.type) for argument in op._schema.arguments]
    results = [str(result.type) for result in op._schema.returns]
    if types != ["Tensor", "Tensor", "List[int]"] or results != ["Tensor"]:
        raise Complaint(
            f"Your schema reads `{op._schema}`. The operator takes two tensors and a list of two whole numbers, int[2], "
            "and returns one tensor."
        )


def called(function, x, weight, padding):
    if x.is_meta:  # of offsets; the operator would not launch for such a tensor
        return function.__globals__["implementation"](x, weight, padding)
    with registered(function) as op:
        check_schema(op)
        y = op(x.clone(), weight.clone(), padding)
        opcheck(op, (x, weight, padding), "test_schema")
        return y


def faked(function, x, weight, padding):
    with mock.patch.object(torch.library, "register_fake", wraps=torch.library.register_fake) as told:
        with registered(function) as op:
            if not told.called:
                raise Complaint(
                    "Nobody has told PyTorch of your `fake`: without torch.library.register_fake, a compiler that asks how "
                    "large the result is runs your kernel on tensors that have no values."
                )
            y = op(x, weight, padding)
            check_fake(without_values(op, x, weight, padding), y)
            opcheck(op, (x, weight, padding), "test_faketensor")
            return y


def without_values(op, x, weight, padding):
    """What the operator gives for tensors that have sizes, and no memory."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return op(x.to("meta"), weight.to("meta"), padding)
    except Exception as error:
        raise said(
            f"Your fake fails for tensors without values: {first_line(error)} A fake computes nothing, it makes a tensor "
            "of the right size.",
            error,
        ) from None


def check_fake(fake, y):
    def both(of, name, more=""):
        if of(fake) != of(y):
            raise Complaint(f"The {name} of your fake is {of(fake)}, that of the operator's result {of(y)}.{more}")

    if not isinstance(fake, torch.Tensor):
        raise Complaint(f"Your fake returned {type(fake).__name__}, and the operator returns a tensor.")
    both(lambda t: tuple(t.shape), "size", " Plans are made with the first, and then the second arrives.")
    both(lambda t: t.dtype, "dtype", " x.new_empty keeps the dtype and the device of x.")
    both(lambda t: t.stride(), "layout (strides)")
    if fake.device.type != "meta":
        raise Complaint(
            f"For tensors on the device meta your fake is on {fake.device}: x.new_empty keeps the dtype and the device of x."
        )


def gradients(function, x, weight, padding, dy, wanted):
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    def conv(x, weight, padding):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return op(x, weight, padding)

    with registered(function) as op:
        opcheck(op, (x.clone().requires_grad_(), weight, padding), "test_autograd_registration")
        grads = asked(differentiated(conv), x, weight, padding, dy, wanted)
        if not kept:
            raise Complaint(
                "The tensors that you keep are attributes of ctx, where autograd cannot see them: it could not free them, nor "
                "notice that somebody has written to them in between. Give them to ctx.save_for_backward."
            )
        try:
            differentiated(op)(x.to("meta"), weight.to("meta"), padding, dy.to("meta"), wanted)
        except Exception as error:
            raise said(
                f"Asked for gradients of tensors without values, your backward fails: {first_line(error)} A compiler asks "
                "so. A backward calls operators, torch.ops.course.conv2d, which have a fake; not the function that launches.",
                error,
            ) from None
        return grads


def asked(differentiate, x, weight, padding, dy, wanted):
    """The gradients; what autograd refuses is said in other words."""
    try:
        return differentiate(x, weight, padding, dy, wanted)
    except RuntimeError as error:
        words = first_line(error)
        count = re.search(r"incorrect number of gradients \(expected (\d+), got (\d+)\)", words)
        shape = re.search(
            r"invalid gradient at index (\d) - got \[(.*?)\] but expected shape compatible with \[(.*?)\]", words
        )
        if count:
            raise Complaint(
                f"Your backward returns {count[2]} values, and the operator has {count[1]} inputs: one for each, in their "
                "order, None for `padding`."
            ) from None
        if shape:
            name, other = NAMES[int(shape[1])], (weight, x)[int(shape[1])]
            raise Complaint(
                f"The gradient of `{name}` has the size ({shape[2]}), and `{name}` has ({shape[3]}). "
                + where_to_look(shape[2], shape[3], ", ".join(map(str, other.shape)))
            ) from None
        if "not have been used in the graph" in words:
            raise Complaint("Your backward returns None for an input whose gradient is asked for.") from None
        raise


def where_to_look(got, wanted, other):
    if got == other:
        return "Does backward return them in the order of the inputs?"
    if sorted(got) == sorted(wanted):
        return "Which two dimensions change places, before and after?"
    if got.split(", ")[:2] != wanted.split(", ")[:2]:
        return "Images take the place of channels: of x and of dy the first two dimensions change places, before the operator."
    return "With which padding does the convolution give a result of that size?"


def check_launches(launches, x, weight, padding, dy, wanted):
    if len(launches) > 1 + len(wanted):
        raise Complaint(
            f"{' and '.join(f'`{name}`' for name in wanted)} alone was to have a gradient, and your backward computes both: "
            f"{len(launches)} launches for {1 + len(wanted)}. In a network the image is such a case. ctx.needs_input_grad says "
            "which are wanted."
        )


REFUSED = (
    ("an image without channels", (5, 6), (2, 3, 3, 3), (0, 0), {}, "x", ("(5, 6)", "2")),
    ("a weight of three dimensions", (1, 3, 5, 6), (3, 3, 3), (0, 0), {}, "weight", ("(3, 3, 3)", "3")),
    ("a weight for 2 channels and an image of 3", (1, 3, 5, 6), (4, 2, 3, 3), (0, 0), {}, "weight", ("2", "(4, 2, 3, 3)")),
    ("a weight in float16", (1, 3, 5, 6), (4, 3, 3, 3), (0, 0), {"dtype": torch.float16}, "weight", ("float16",)),
    ("a padding of -1", (1, 3, 5, 6), (4, 3, 3, 3), (-1, 0), {}, "padding", ("-1",)),
    ("a filter that is larger than the image", (1, 3, 5, 6), (4, 3, 3, 9), (0, 1), {}, "weight", ("(4, 3, 3, 9)", "9")),
)  # fmt: skip
"""What, the sizes of x and weight, padding, the dtype of weight, which argument is to be named, with one of which values."""


def refusing(function, x, weight, padding):
    with registered(function):
        for what, *call, name, values in REFUSED:
            check_message(what, refused(function, what, *call, name), name, values)
        return function(x, weight, padding)


def refused(function, what, x_size, weight_size, padding, more, name):
    """What is said to a wrong call. Its tensors have no values: no kernel runs that would touch what is not there."""
    try:
        function(torch.zeros(x_size, device="meta"), torch.zeros(weight_size, device="meta", **more), padding)
    except ValueError as error:
        return str(error)
    except Exception as error:  # whatever a student's function raises
        raise said(
            f"With {what} your conv2d ends in {type(error).__name__}, which does not tell the caller what to change. "
            f"Let `check` raise a ValueError about `{name}`.",
            error,
        ) from None
    raise Complaint(
        f"Your conv2d takes {what}, and returns something. The kernel trusts its caller: refuse it, with a ValueError "
        f"about `{name}`."
    )


def check_message(what, message, name, values):
    if f"`{name}`" not in message:
        raise Complaint(
            f"About {what} yours says: {message!r}. That does not name the argument, `{name}`, in backticks."
        )
    spoken = message.replace("[", "(").replace("]", ")")  # a torch.Size says the same as a tuple
    if not any(value in spoken for value in values):
        raise Complaint(f"About {what} yours says: {message!r}. That does not say what was given: {values[0]}.")


def compiled(function, x, weight, padding, dy):
    """One graph with the operator in it, forward and backward; and a program of it."""

    class Layer(torch.nn.Module):
        def forward(self, x, weight):
            return function(x, weight, padding)

    with registered(function):
        torch._dynamo.reset()
        try:
            whole = torch.compile(function, backend="aot_eager", fullgraph=True)
            given = x.clone().requires_grad_(), weight.clone().requires_grad_()
            y = whole(*given, padding)
            grads = torch.autograd.grad(y, given, dy)
            program = torch.export.export(Layer(), (x, weight))
        except torch._dynamo.exc.TorchDynamoException as error:
            cause = error.__cause__ or error
            raise said(f"torch.compile cannot make one graph of your conv2d: {first_line(cause)}", cause) from None
        calls = [node for node in program.graph.nodes if str(node.target) == "course.conv2d.default"]
        if len(calls) != 1:
            raise Complaint(f"The exported program has {len(calls)} calls of course.conv2d, and should have 1.")
        return y.detach(), *grads
