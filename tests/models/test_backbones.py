"""Classifiers of torchvision and timm: built, trained, fine-tuned, gone on with, asked; and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.tiny import Silent
from torchops.models import Checkpoint, CheckpointError, build, classifier, load
from torchops.models.backbones import check_scores, head, stages, statistics
from torchops.models.distributed import Processes
from torchops.models.options import Config
from torchops.models.runs import Run
from torchops.models.training import Trainer, train

pytest.importorskip("timm", reason="its models are classifiers, too")
RESNET, EFFICIENTNET = "timm:test_resnet", "timm:test_efficientnet"
HEADS = {
    "torchvision:squeezenet1_1": "classifier.1.", "torchvision:mobilenet_v3_small": "classifier.3.",
    "torchvision:shufflenet_v2_x0_5": "fc.", "timm:test_byobnet": "head.fc.", RESNET: "fc.", EFFICIENTNET: "classifier.",
}  # fmt: skip


def tiny(model: str = EFFICIENTNET, **changes: Any) -> Config:
    small: dict[str, Any] = {"examples": 2, "size": 32, "batch_size": 10, "epochs": 1, "seed": 1}
    return Config("classifier", {"model": model}, **{**small, **changes})


def trained(path: Path, config: Config) -> Run:
    run = Run.create(path, config)
    train(config, run, Silent())
    return run


@pytest.mark.parametrize("model", HEADS)
def test_head_and_stages(model: str) -> None:
    net = classifier(model, classes=3)
    assert head(net) == (HEADS[model],)
    check_scores(net, 3, 64)
    assert any(type(m).__module__ == "torchops.nn" for m in net.modules())
    parts = list(stages(net))
    assert len(parts) >= 4
    assert [id(p) for part in parts for p in part] == [id(p) for p in net.parameters()]
    named = {id(p): name for name, p in net.named_parameters()}
    assert all(named[id(p)].startswith(HEADS[model]) for p in parts[-1])


def test_stages_are_the_blocks_of_the_trunk() -> None:
    names = {}
    for model in (EFFICIENTNET, RESNET):
        net = classifier(model, classes=3)
        named = {id(p): name for name, p in net.named_parameters()}
        names[model] = [named[id(part[0])] for part in stages(net)]
    assert names[RESNET][0].startswith("conv1.0.")
    assert [name.partition(".")[0] for name in names[RESNET]] == ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]
    depth = len([name for name in names[EFFICIENTNET] if name.startswith("blocks.")])
    assert names[EFFICIENTNET][0] == "conv_stem.weight"
    assert names[EFFICIENTNET][-2:] == ["conv_head.weight", "classifier.weight"]
    assert depth == len(classifier(EFFICIENTNET).blocks)  # type: ignore[arg-type]


def test_statistics_are_the_models_own() -> None:
    assert statistics(RESNET) == {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert statistics("torchvision:resnet18")["mean"] == (0.485, 0.456, 0.406)


def test_a_run_is_loaded_fine_tuned_and_gone_on_with(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", tiny(RESNET, epochs=1))
    checkpoint = Checkpoint.load(run.path)
    assert checkpoint.options == {"model": RESNET, "classes": 10}
    assert checkpoint.preprocess["mean"] == (0.5, 0.5, 0.5)
    net: Any = load(run.path)
    answer = net.predict(torch.rand(3, 40, 50))
    assert set(answer) == set(map(str, range(10)))
    assert sum(answer.values()) == pytest.approx(1, abs=1e-5)
    theirs = load(run.path, layers="torch")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(net(x), theirs(x), rtol=1e-4, atol=1e-5)
    longer = tiny(RESNET, epochs=2)
    train(longer, run, Silent(), resume=True)
    assert [row["epoch"] for row in run.metrics()] == [1, 2]
    # the weights are what the library would have saved, of other classes
    state = build("classifier", model=RESNET, classes=7, layers="torch").state_dict()
    torch.save({"state_dict": state}, tmp_path / "r.pt")
    config, watcher = tiny(RESNET, weights=str(tmp_path / "r.pt"), lr=1e-12), Silent()
    trainer = Trainer(config, Run(tmp_path / "none"), Processes.join("cpu"), watcher)
    assert trainer.data.found.notes[1:] == [
        f"{tmp_path / 'r.pt'}: the weights are of 7 classes, not 10: the head is a new one"
    ]
    assert torch.equal(trainer.net.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    with pytest.raises(CheckpointError, match=r"`weights` \(=.*weights of another network"):
        Trainer(tiny(weights=str(run.path)), Run(tmp_path / "none"), Processes.join("cpu"), watcher)


def test_frozen_epochs_train_the_head_alone(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny(freeze=1, epochs=2, layer_decay=0.5))
    states: list[dict[str, Tensor]] = []

    def look(epoch: int, step: int) -> None:
        states.append({k: v.clone() for k, v in trainer.net.state_dict().items()})

    trainer = Trainer(run.config(), run, Processes.join("cpu"), Silent(look))
    first = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    count = len(list(stages(trainer.net)))
    assert trainer.rates == pytest.approx([1e-3 * 0.5**k for k in reversed(range(count))])
    trainer.train()
    assert {n for n in first if not torch.equal(first[n], states[0][n])} == {"classifier.weight", "classifier.bias"}
    assert not torch.equal(states[0]["conv_stem.weight"], states[-1]["conv_stem.weight"])


@pytest.mark.parametrize(
    ("model", "match"),
    [
        ("resnet18", "`model` must be torchvision:NAME or timm:NAME, got resnet18"),
        ("timm:hf-hub:a/b", "must be torchvision:NAME or timm:NAME"),
        ("timm:../x", "must be torchvision:NAME or timm:NAME"),
        ("timm:resnet17", r"timm has no classifier resnet17; it has \w+"),
        ("timm:resnet18.nowhere", "timm has no classifier resnet18.nowhere"),
        ("torchvision:efficientnet_b9", "torchvision has no classifier efficientnet_b9; it has efficientnet_b"),
        ("torchvision:deeplabv3_resnet50", "torchvision has no classifier"),
    ],
)
def test_unknown_models_are_refused(model: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        classifier(model)


def test_what_a_model_does_not_take_is_refused(tmp_path: Path) -> None:
    config = tiny("timm:vit_tiny_patch16_224", size=32)
    with pytest.raises(ValueError, match=r"`size` \(=32\): the model takes no such images: Input height"):
        train(config, Run(tmp_path / "run"), Silent())
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="`weights` must be a file, a run or DEFAULT, got nowhere"):
        classifier(RESNET, weights="nowhere")


def test_a_download_that_fails_and_a_library_that_is_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    with pytest.raises(ConnectionError, match=r"timm's weights of test_resnet cannot be downloaded \(no network\)"):
        classifier(RESNET, weights="DEFAULT")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match="`model` needs timm: pip install timm"):
        classifier(RESNET)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model": "hf-hub:a/b"}, "`model` must be torchvision:NAME or timm:NAME"),
        ({"model": ["timm:resnet18"]}, "`model` must be torchvision:NAME or timm:NAME"),
        ({"model": None}, "`model` must be torchvision:NAME or timm:NAME"),
        ({"model": "timm:nothing_like_it"}, "timm has no classifier nothing_like_it"),
        ({"model": "timm:vit_giant_patch14_dinov2"}, "the weights do not fit classifier"),
        ({"classes": 10**9}, "of other classes than `options` say"),
        ({"weights": "DEFAULT"}, "name other weights"),
        ({"pretrained": True}, "the weights do not fit classifier"),
    ],
)
def test_hostile_checkpoints_are_refused(options: dict[str, Any], match: str, tmp_path: Path) -> None:
    state = classifier(EFFICIENTNET, classes=2).state_dict()
    own = {"model": EFFICIENTNET, "classes": 2, **options}
    Checkpoint("classifier", own, state, ["a", "b"], {"channels": 3, "size": 32}).save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=match):
        load(tmp_path / "c.pt")


def test_models_that_compute_their_widths_are_loaded(tmp_path: Path) -> None:
    net = classifier("torchvision:regnet_y_400mf", classes=2)
    saved = Checkpoint(
        "classifier", {"model": "torchvision:regnet_y_400mf", "classes": 2}, net.state_dict(), ["a", "b"], {}
    )
    assert torch.equal(saved.model().state_dict()["fc.weight"], net.state_dict()["fc.weight"])
