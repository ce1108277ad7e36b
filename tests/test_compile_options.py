"""torch.compile with the backend: its options, its reports, and what it hands on."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import fx, nn

from torchops.compile import Backend

from .compiled import compiled_as_before
from .networks import Block, image, small
from .test_fusion import net

pytestmark = pytest.mark.usefixtures("fresh_compiler")


def test_include_and_exclude() -> None:
    def parts(**options: Any) -> dict[str, str]:
        return compiled_as_before(small(), image(2, 3, 16, 16), backend=Backend(rest="eager", **options)).fused

    assert list(parts(include="blocks.0")) == ["blocks.0.conv1", "blocks.0.conv2"]
    assert list(parts(include=["*.conv1", "head"])) == ["blocks.0.conv1", "blocks.1.conv1", "head"]
    assert list(parts(exclude=Block)) == ["stem.1", "up.0", "head"]
    assert list(parts(exclude=["blocks", "stem", nn.ConvTranspose2d])) == ["head"]


def test_what_is_excluded_is_named() -> None:
    report = compiled_as_before(small(), image(2, 3, 16, 16), backend=Backend(rest="eager", exclude="head"))
    assert report.kept == {"head": "excluded"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "rest": ({"rest": "cudnn"}, "`rest` must be inductor, eager or a backend, got 'cudnn'"),
    "weights": ({"weights": "frozen"}, "`weights` must be one of guarded, in_graph, got 'frozen'"),
    "channels_last": ({"channels_last": "yes"}, "`channels_last` must be True, False or None, got 'yes'"),
    "include": ({"include": 3}, "`include` must be names or classes of layers, got 3"),
    "inductor": ({"rest": "eager", "inductor": {"max_autotune": True}}, "need `rest` 'inductor', got 'eager'"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_refuses(which: str) -> None:
    options, message = REFUSED[which]
    with pytest.raises((TypeError, ValueError), match=message):
        Backend(**options)


def test_options_of_torch_compile() -> None:
    backend = Backend()
    run = torch.compile(small(), backend=backend, options={"rest": "eager", "exclude": "head"})
    with torch.no_grad():
        run(image(1, 3, 16, 16))
    assert "head" not in backend.reports[0].fused
    for options, message in (
        ({"wieghts": "in_graph"}, "got 'wieghts'; near it is 'weights'"),
        ({"rest": "eager", "max_autotune": True}, r"options of Inductor's \('max_autotune'\) need `rest` 'inductor'"),
    ):
        with torch.no_grad(), pytest.raises(Exception, match=message):
            torch.compile(small(), backend=backend, options=options)(image(1, 3, 16, 16))


def test_modes_are_inductors() -> None:
    from torchops.compile.options import Options

    assert Options().with_more("reduce-overhead", None).inductor == {"triton.cudagraphs": True}
    assert Options().with_more(None, {"max_autotune": True}).inductor == {"max_autotune": True}
    with pytest.raises(ValueError, match=r"`mode` must be one of torch.compile's, got 'fastest'"):
        Options().with_more("fastest", None)


def test_a_backend_of_the_users() -> None:
    seen: list[fx.GraphModule] = []

    def theirs(gm: fx.GraphModule, example_inputs: list[Any]) -> Any:
        seen.append(gm)
        return gm.forward

    compiled_as_before(small(), image(2, 3, 16, 16), backend=Backend(rest=theirs))
    (gm,) = seen
    called = {n.target for n in gm.graph.nodes if n.op == "call_function"}
    assert torch.ops.torchops.conv2d.default in called
    # so that a CUDA graph need not copy them: weights, folded or not, stay where they are, and only the image is new
    marked = [n.meta.get("tensor_dict") is not None for n in gm.graph.nodes if n.op == "placeholder"]
    assert marked.count(False) == 1
    # weights and biases of seven convolutions and a transposed one
    assert marked.count(True) == 16


def test_in_inductor_on_a_cpu_only_aten_is_left() -> None:
    from torch._inductor.utils import run_and_get_code

    run = torch.compile(small().float(), backend=Backend())
    with torch.no_grad():
        _, codes = run_and_get_code(run, image(1, 3, 16, 16))
    assert "torch.ops.torchops" not in "".join(codes)
    assert "extern_kernels.convolution" in "".join(codes)


def test_a_model_in_eval_mode_alone_is_for_training() -> None:
    backend = Backend(rest="eager")
    model = small()
    y = torch.compile(model, backend=backend)(image(1, 3, 16, 16))
    (report,) = backend.reports
    assert y.requires_grad
    assert report.training
    assert report.fused == {}
    assert str(report).splitlines()[0].endswith("call the model under torch.no_grad() for a fused one")
    assert "swapped: 1 avg_pool2d, 7 conv2d, 1 conv_transpose2d, 1 max_pool2d, 1 max_unpool2d" in str(report)
    model.requires_grad_(False)
    torch.compiler.reset()
    torch.compile(model, backend=backend)(image(1, 3, 16, 16))
    assert not backend.reports[-1].training


def test_reports_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "torchops.compile"):
        report = compiled_as_before(net(lambda m, x: m.a(x)))
    assert str(report) in caplog.text


def test_by_name_and_without_an_import() -> None:
    code = """
import sys, torch
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
with torch.no_grad():
    run = torch.compile(model, backend="torchops", options={"rest": "eager"})
    assert torch.allclose(run(torch.ones(1, 3, 8, 8)), model(torch.ones(1, 3, 8, 8)), atol=1e-6)
assert list(sys.modules["torchops.compile"].backend.reports[0].fused.values()) == ["conv2d + batch_norm"]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_of_torchops_does_not_import_the_compiler() -> None:
    code = "import sys, torchops; sys.exit('torch._dynamo' in sys.modules or 'torch._inductor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
