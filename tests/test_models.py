"""Everything that torch does with a model, done with a converted one and a fused one."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint_sequential

import torchops

from .conformance import EVERY_TIER, OPERATOR, close
from .inside import on_a_gpu_that_is_not_there
from .networks import NETWORKS, Block, as_torch_has_it, gradients, image, small

forms = pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])


def converted(device: Any = "cpu") -> nn.Module:
    return torchops.convert(small().to(device))[0]


def fused(device: Any = "cpu") -> nn.Module:
    return torchops.fuse(small().to(device))[0]


made = pytest.mark.parametrize("make", [converted, fused], ids=["converted", "fused"])


@pytest.fixture
def x(device: torch.device) -> Tensor:
    return image(2, 3, 16, 12, device=device)


@EVERY_TIER
@forms
def test_small_network_end_to_end(form: torch.memory_format, x: Tensor, device: torch.device) -> None:
    """Every layer that is swapped, through the kernels: the original's logits, training and gradients."""
    original, ours = small().to(device), converted(device).to(memory_format=form)
    with as_torch_has_it():
        with torch.no_grad():
            expected = original(x)
        expected_step, expected_grads = gradients(original, x)
    with torch.no_grad():
        close(ours(x.contiguous(memory_format=form)), expected, torch.float32, 4)
        close(fused(device)(x.contiguous(memory_format=form)), expected, torch.float32, 4)
    step, grads = gradients(ours, x.contiguous(memory_format=form))
    close(step, expected_step, torch.float32, 10)
    assert grads.keys() == expected_grads.keys()
    scale = max(float(g.abs().max()) for g in expected_grads.values())
    for name, grad in grads.items():
        close(grad / scale, expected_grads[name] / scale, torch.float32, 20)


@OPERATOR
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_autocast_training_step(low: torch.dtype, x: Tensor, device: torch.device, tier: str) -> None:
    if tier == "interpreter" and low is torch.bfloat16:
        pytest.skip("bfloat16 raises in Triton's interpreter, which computes it wrongly")
    model = converted(device)
    exact = gradients(copy.deepcopy(model).double(), x.double())[1]
    with torch.autocast(device.type, dtype=low):
        y, grads = gradients(model, x)
        with as_torch_has_it():
            expected, expected_grads = gradients(small().to(device), x)
    assert y.dtype == expected.dtype == low
    # roundings move maxima from one pixel to the next; ours do no more harm than torch's
    for name, grad in grads.items():
        assert grad.dtype == torch.float32
        own, other = ((g - exact[name]).norm() for g in (grad, expected_grads[name]))
        assert own <= 2 * other + 1e-3 * exact[name].norm(), name


@pytest.mark.tiers("aten", "gpu")
@made
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compile_fullgraph(make: Any, dynamic: bool, x: Tensor, device: torch.device) -> None:
    torch.compiler.reset()
    model = make(device)
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in (x, x[:1]) if dynamic else (x,):
        expected, expected_grads = gradients(copy.deepcopy(model), size)
        y, grads = gradients(compiled, size)
        close(y, expected, torch.float32)
        for (name, grad), reference in zip(grads.items(), expected_grads.values(), strict=True):
            close(grad, reference, torch.float32, 4), name


@made
@pytest.mark.filterwarnings("ignore:No complete tensor found")  # torch, of channels_last weights, though each is alone
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11, which reads them so
def test_export_and_reload(make: Any, x: Tensor) -> None:
    model, file = make(), io.BytesIO()
    batch = torch.export.Dim("batch", min=1, max=8)
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: batch},)), file)
    file.seek(0)
    program = torch.export.load(file)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert any(name.startswith("torchops.conv2d") for name in names)
    assert not any(name.startswith(("aten.conv", "aten.max_pool", "aten.max_unpool")) for name in names)
    for size in (x, x[:1]):
        close(program.module()(size), model(size), torch.float32)


@made
def test_export_for_any_size(make: Any) -> None:
    """Residuals, borders and positions of maxima: what they compare sizes for, holds for all."""
    model = make()
    sizes = {d: 4 * torch.export.Dim(name, min=3, max=999) for d, name in ((2, "rows"), (3, "columns"))}
    program = torch.export.export(model, (image(2, 3, 16, 12),), dynamic_shapes=(sizes,)).module()
    for size in ((12, 32), (20, 12)):
        x = image(2, 3, *size)
        close(program(x), model(x), torch.float32)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv2d": lambda: torchops.nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="reflect", activation="relu"),
    "conv_transpose2d": lambda: torchops.nn.ConvTranspose2d(3, 4, 3, stride=2),
    "max_pool2d": lambda: torchops.nn.MaxPool2d(3, 2, 1),
    "min_pool2d": lambda: torchops.nn.MinPool2d(2, return_indices="offset"),
    "avg_pool2d": lambda: torchops.nn.AvgPool2d(3, 2, 1),
    "avg_unpool2d": lambda: torchops.nn.AvgUnpool2d(3, 2),
    "sobel": torchops.nn.Sobel,
}


@pytest.mark.parametrize("dims", [3, 4])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_exported_for_any_size(name: str, dims: int) -> None:
    """Views that make an image a batch of one, and back, ask nothing of its size."""
    layer = LAYERS[name]()
    sizes = {dims - 2: torch.export.Dim("height", min=4), dims - 1: torch.export.Dim("width", min=4)}
    x = image(2, 3, 21, 27)
    program = torch.export.export(layer, (x[0] if dims == 3 else x,), dynamic_shapes=(sizes,)).module()
    for size in ((4, 40), (24, 32)):
        x = image(2, 3, *size)[0] if dims == 3 else image(2, 3, *size)
        torch.testing.assert_close(program(x), layer(x), rtol=0, atol=0, check_stride=True)


@made
def test_deepcopy_pickle_and_state_dict(make: Any, x: Tensor) -> None:
    model = make()
    expected = model(x)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again(x), expected)
        assert next(again.parameters()) is not next(model.parameters())
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = make()
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), expected)


@made
def test_functional_call_and_its_gradient(make: Any, x: Tensor) -> None:
    model = make()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    half = {name: p / 2 for name, p in parameters.items()}
    y = torch.func.functional_call(model, half, (x,))
    grads = torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).square().mean())(half)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter /= 2
    close(y, model(x), torch.float32)
    expected = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
    for grad, reference in zip(grads.values(), expected, strict=True):
        close(grad, reference, torch.float32)


@OPERATOR
@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant: bool, x: Tensor, device: torch.device) -> None:
    torch.manual_seed(0)
    blocks = torchops.convert(nn.Sequential(Block(3, 4, 1), Block(4, 4, 1), Block(4, 6, 2)).to(device).eval())[0]
    x = x.requires_grad_()
    expected = torch.autograd.grad(blocks(x).square().mean(), [x, *blocks.parameters()])
    checkpoint_sequential(blocks, 3, x, use_reentrant=reentrant).square().mean().backward()
    for tensor, reference in zip([x, *blocks.parameters()], expected, strict=True):
        assert tensor.grad is not None
        close(tensor.grad, reference, torch.float32)


@made
def test_channels_last_end_to_end(make: Any, x: Tensor) -> None:
    """A step on a GPU converts no layout: not a tensor is copied inside an operator, nor between two."""
    model = make().to(memory_format=torch.channels_last).train()
    model.requires_grad_(make is converted)
    with on_a_gpu_that_is_not_there() as (launches, inside):
        y = model(x.contiguous(memory_format=torch.channels_last))
        assert y.is_contiguous(memory_format=torch.channels_last)
        if make is converted:
            y.backward(torch.ones_like(y))
    assert len(launches) > 9
    copies = {"contiguous", "clone", "_to_copy", "copy_"}
    assert not copies & set(inside.calls[True])
    # to start a gradient with, each Parameter's is copied once
    assert sum(inside.calls[False][name] for name in copies) <= len(list(model.parameters()))


@made
def test_cuda_graphs_can_hold_a_step(make: Any, x: Tensor) -> None:
    """By inspection: nothing waits for the GPU, nothing is as large as the data say, all memory is the caching allocator's."""
    model = make()
    with on_a_gpu_that_is_not_there() as (launches, inside):
        y = model(x)
        y.backward(torch.ones_like(y))
    assert launches
    waits = {
        "_local_scalar_dense",
        "item",
        "nonzero",
        "is_nonzero",
        "equal",
        "masked_select",
        "_unique2",
        "to",
        "resize_",
    }
    assert not waits & {*inside.calls[True], *inside.calls[False]}
    # a fake tensor has no data to look at
    with FakeTensorMode() as mode, torch.no_grad():
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        there = {name: mode.from_tensor(t).to("cuda") for name, t in tensors.items()}
        y = torch.func.functional_call(model, there, (mode.from_tensor(x).to("cuda"),))
    assert y.device.type == "cuda"


def _train(rank: int, port: int, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = DistributedDataParallel(converted())
    # batch norm stays in eval mode: in training mode each process would have statistics of its own
    y = model(image(4, 3, 16, 12)[2 * rank : 2 * rank + 2])
    y.square().mean().backward()
    queue.put((rank, {name: p.grad.numpy() for name, p in model.module.named_parameters()}))
    dist.destroy_process_group()


def test_two_processes_train_as_one() -> None:
    """DistributedDataParallel on two processes has the gradients of one with the joint batch."""
    model = converted()
    model(image(4, 3, 16, 12)).square().mean().backward()
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    port = _free_port()
    processes = [context.Process(target=_train, args=(rank, port, queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    for name, parameter in model.named_parameters():
        for rank in (0, 1):
            close(torch.from_numpy(found[rank][name]), parameter.grad, torch.float32)


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_compiled_resnet_trains_as_the_original() -> None:
    torch.compiler.reset()
    x = image(2, 3, 64, 64)
    expected, expected_grads = gradients(NETWORKS["resnet18"](), x)
    y, grads = gradients(
        torch.compile(torchops.convert(NETWORKS["resnet18"]())[0], fullgraph=True, backend="aot_eager"), x
    )
    close(y, expected, torch.float32, 4)
    for (name, grad), reference in zip(grads.items(), expected_grads.values(), strict=True):
        close(grad, reference, torch.float32, 10), name
