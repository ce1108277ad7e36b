"""Pictures have one style: colours by what they mean, round numbers at axes, and texts that are read at 700 pixels."""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
import torchvision
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from bench import charts, compiled, explained, figures, lessons, picture
from bench.results_file import Run, load
from torchops.cli import demo_pictures
from torchops.files import hues, plots
from torchops.files.plots import figure, log_axis, number, save, style, times
from torchops.models import pictures
from torchops.models.colours import COLOURS
from torchops.models.inside import drawing
from torchops.models.inside.fields import Field
from torchops.workloads import CASES

from .made_up_results import TIMES, made_up_run, written
from .sight import SIGHT, contrast, least_distance

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "assets"


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(
    "together",
    [
        (hues.LOSS, hues.WIN, hues.EVEN), (hues.OURS, hues.OTHERS), (hues.TRAINED, hues.HELD_OUT), hues.CYCLE,
        tuple(charts.KINDS.values()), tuple(charts.BOUNDS.values()), hues.PROGRAMS[:4],
    ],
    ids=["verdicts", "sides", "parts", "cycle", "kinds", "bounds", "programs"],
)  # fmt: skip
def test_colours_that_stand_together_differ_for_every_reader(together: tuple[str, ...], sight: str) -> None:
    """A distance of 2.3 is one that can just be seen."""
    assert least_distance([_rgb(colour) for colour in together], SIGHT[sight]) >= 9


@pytest.mark.parametrize("colour", [hues.INK, hues.SOFT, hues.RED])
def test_texts_are_read_on_their_ground(colour: str) -> None:
    assert contrast(_rgb(colour), _rgb(hues.PAPER)) >= 4.5


@pytest.mark.parametrize("colour", hues.PROGRAMS)
def test_texts_are_read_on_cells(colour: str) -> None:
    assert contrast(_rgb(hues.INK), _rgb(colour)) >= 4.5


def test_white_makes_a_colour_pale() -> None:
    assert hues.pale("#0072b2", 0.0) == "#0072b2"
    assert hues.pale("#0072b2", 1.0) == "#ffffff"
    assert hues.pale("#0080ff", 0.5) == "#80c0ff"


def test_the_style_sheet_has_the_colours_of_the_hues() -> None:
    with style():
        assert [to_hex(colour) for colour in mpl.rcParams["axes.prop_cycle"].by_key()["color"]] == list(hues.CYCLE)
        assert to_hex(mpl.rcParams["text.color"]) == hues.INK
        assert to_hex(mpl.rcParams["axes.edgecolor"]) == hues.SOFT
    assert [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in COLOURS[:8]] == list(hues.OKABE_ITO)


def test_the_style_is_the_same_whatever_the_user_set() -> None:
    with mpl.rc_context(
        {"font.size": 30, "font.family": "no such font", "axes.facecolor": "black", "font.sans-serif": ["x"]}
    ):
        with style({"legend.fontsize": 7}):
            assert mpl.rcParams["font.size"] == 9
            assert mpl.rcParams["axes.facecolor"] == "white"
            assert mpl.rcParams["font.family"] == ["sans-serif"]
            assert mpl.rcParams["font.sans-serif"] == ["DejaVu Sans"]
            assert mpl.rcParams["legend.fontsize"] == 7
        assert mpl.rcParams["font.size"] == 30


def test_the_ground_is_opaque(tmp_path: Path) -> None:
    """So that dark texts are read on dark pages."""
    with style():
        drawn = figure(1, 1)
        drawn.subplots()
        path = save(drawn, tmp_path / "figure.png")
    with Image.open(path) as image:
        assert image.convert("RGBA").getextrema()[3] == (255, 255)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (1.0, "1"),
        (2.5, "2.5"),
        (20000, "20,000"),
        (1e-6, "1e-6"),
        (2e7, "2e7"),
        (-0.5, "-0.5"),
    ],
)
def test_numbers_are_as_people_write_them(value: float, words: str) -> None:
    assert number(value) == words


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.06, 2.3, ["0.1x", "0.2x", "0.5x", "1x", "2x"]),
        (0.9, 1.3, ["0.9x", "1x", "1.1x", "1.2x", "1.3x"]),
        (1, 50000, ["1x", "10x", "100x", "1,000x", "10,000x"]),
        (1e-13, 1e-1, ["1e-13x", "1e-11x", "1e-9x", "1e-7x", "1e-5x", "0.001x", "0.1x"]),
    ],
)
def test_logarithmic_axes_have_round_numbers(low: float, high: float, shown: list[str]) -> None:
    with style():
        axes = figure(4, 2).subplots()
        log_axis(axes.xaxis, times)
        axes.set_xlim(low, high)
        ticks = axes.xaxis.get_major_ticks()
        places, words = axes.get_xticks(), [tick.label1.get_text() for tick in ticks]
        axes.figure.canvas.draw()
        words = [tick.label1.get_text() for tick in axes.xaxis.get_major_ticks()]
    inside = [word for place, word in zip(places, words, strict=True) if low * 0.999 <= place <= high * 1.001]
    assert inside == shown
    assert not axes.xaxis.get_minorticklocs().size


def test_an_axis_without_values_is_drawn(tmp_path: Path) -> None:
    with style():
        drawn = figure(2, 2)
        axes = drawn.subplots()
        axes.plot([1, 2], [float("nan")] * 2)
        log_axis(axes.yaxis)
        assert save(drawn, tmp_path / "nothing.png").exists()


#
# What is drawn.


ROWS = [{"epoch": i, "train_loss": 1 / i, "val_loss": 1.2 / i, "val_accuracy": i / 9} for i in range(1, 9)]
CLASSES = [str(n) for n in range(10)]
NETWORKS = {"a network": ([20, 20, 8, 17, 3], [20, 0, 0, 0, 3]), "another": ([53, 53, 16, 49, 3], [53, 0, 0, 0, 3])}
LEFT = {
    "a": charts.Left(68, 23, False, 23),
    "b": charts.Left(469, 122, True, 444),
    "c": charts.Left(61, None, False, 27),
}
MODELLED = [charts.Modelled(layer, name, 20.0, 8.0, "L2") for layer in CASES for name in charts.PASSES]


def _run() -> Run:
    with tempfile.TemporaryDirectory() as folder:
        return load(written(Path(folder) / "results.json", made_up_run(TIMES)))


RUN = _run()


def _of_figure(make: Callable[[], Figure]) -> Callable[[Path], object]:
    return lambda folder: save(make(), folder / "figure.png")


PICTURES: Mapping[str, Callable[[Path], object]] = {
    "curves": lambda f: pictures.curves(ROWS, "val_accuracy", f / "p.png"),
    "confusion": lambda f: pictures.confusion(torch.eye(10, dtype=torch.long) * 40 + 1, CLASSES, f / "p.png"),
    "predictions": lambda f: pictures.predictions(torch.rand(12, 1, 8, 8), CLASSES, CLASSES[::-1], [0.9] * 10, f / "p.png"),
    "overlays": lambda f: pictures.overlays(
        [torch.rand(1, 9, 9)] * 2, [torch.ones(9, 9).long()] * 2, [torch.zeros(9, 9).long()] * 2, CLASSES, f / "p.png"
    ),
    "samples": lambda f: pictures.samples(
        dict.fromkeys(("real", "DDPM, 500 steps", "DDIM"), torch.rand(100, 1, 8, 8)), f / "p.png"
    ),
    "compared": lambda f: pictures.compared(
        {"torch.nn": [2.0, 1.0], "torchops": [2.0, 1.0]}, {"torch.nn": [0.1] * 2, "torchops": [0.1] * 2}, "unet", f / "p.png"
    ),
    "filters of a layer": lambda f: drawing.draw_filters(torch.randn(20, 1, 5, 5), "features.0", f / "p.png"),
    "maps": lambda f: drawing.draw_maps(
        {"features.1": torch.rand(20, 24, 24), "features.4": torch.rand(50, 8, 8)}, f / "p.png"
    ),
    "cam": lambda f: drawing.draw_cam(
        torch.rand(1, 28, 28), torch.rand(8, 8), (6.0, 22.0, 22.0, 6.0), "3", "Grad-CAM", f / "p.png"
    ),
    "fields": lambda f: drawing.draw_fields(
        torch.rand(1, 28, 28), [drawing.Seen(f"features.{n}", Field(8, 8, 5 + n, 5 + n), torch.rand(28, 28)) for n in range(5)],
        f / "p.png",
    ),
    "edges": lambda f: demo_pictures.draw_edges(f / "p.jpg"),
    "filters": lambda f: demo_pictures.draw_filters(f / "p.jpg"),
    "pooling": lambda f: demo_pictures.draw_pooling(f / "p.jpg"),
    "kernels": _of_figure(lambda: charts.kernels(NETWORKS)),
    "kernels left": _of_figure(lambda: charts.kernels_left(LEFT)),
    "over the floor": _of_figure(lambda: charts.over_floor(MODELLED, "H100")),
    "ratios": _of_figure(lambda: figures.ratios(RUN.duels)),
    "errors": _of_figure(lambda: figures.errors([row for row in RUN.rows if row.info.get("error") is not None])),
    **{name: _of_figure(make) for name, make in {**lessons.PICTURES, **explained.PICTURES}.items()},
}  # fmt: skip


def _pixels_of_texts(drawn: Figure) -> Iterator[tuple[float, str]]:
    """The size of each text in pixels, in a page that is 700 pixels wide; a smaller picture is not enlarged."""
    wide = min(1.0, 700 / (drawn.get_figwidth() * 120))
    for text in drawn.findobj(Text):
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip():
            yield text.get_fontsize() / 72 * 120 * wide, text.get_text()


@pytest.mark.parametrize("name", PICTURES)
def test_texts_are_read_at_700_pixels(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture is no wider than a page's text, and no text is so small that its letters run together."""
    found: list[Figure] = []
    monkeypatch.setattr(plots, "choose", found.append)
    with style():
        PICTURES[name](tmp_path)
    (drawn,) = found
    assert drawn.get_figwidth() <= plots.WIDTH + 0.3
    texts = sorted(_pixels_of_texts(drawn))
    assert texts
    assert texts[0][0] >= 8.5, texts[0]


def test_a_loss_is_red_and_a_win_blue() -> None:
    with style():
        (axes,) = figures.ratios(RUN.duels).axes
    of_verdict = {duel.verdict for duel in RUN.duels}
    assert {line.get_color() for line in axes.lines if line.get_marker() != "None"} == {
        figures.COLOURS[v] for v in of_verdict
    }


def test_modelled_bars_are_hollow() -> None:
    with style():
        (axes,) = charts.over_floor(MODELLED, "H100").axes
    assert "MODELLED, not measured" in axes.get_title(loc="left")
    for bar in axes.patches:
        assert sum(bar.get_facecolor()[:3]) > 2.5
        assert bar.get_edgecolor() != bar.get_facecolor()


def test_networks_are_read_from_the_table_of_their_file() -> None:
    table = {
        "columns": [["network", "", ""], ["kernels, eager", "count", "d"], ["fused", "", ""], ["this", "", "d"]],
        "rows": [["a", 68, "23", 23], ["b", 469, "122*", "444"], ["c", 61, "kept whole", 27]],
    }
    assert charts.of_table(json.loads(json.dumps(table))) == LEFT


def test_networks_with_the_fewest_kernels_left_come_first() -> None:
    with style():
        axes = charts.kernels_left(LEFT).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "c", "b"]


#
# What is committed.


@pytest.mark.parametrize("name", ["edges", "filters", "pooling"])
def test_pictures_of_photos_are_those_that_are_committed(name: str, tmp_path: Path) -> None:
    """Nearly: fonts and encoders differ by less than a panel that shows something else."""
    drawn = getattr(demo_pictures, f"draw_{name}")(tmp_path / f"{name}.jpg")
    assert (_coarse(ASSETS / f"{name}.jpg") - _coarse(drawn)).abs().max() < 0.08


def test_kernels_of_networks_are_those_that_are_committed(tmp_path: Path) -> None:
    """The networks are fused anew, and what the picture shows is written in it."""
    drawn = picture.draw(tmp_path / "kernels.png")
    assert PngImageFile(drawn).text == PngImageFile(ASSETS / "kernels.png").text
    assert (_coarse(ASSETS / "kernels.png") - _coarse(drawn)).abs().max() < 0.08


def _coarse(file: Path) -> torch.Tensor:
    """The mean colours of squares of 20 x 20 pixels, from 0 to 1."""
    with Image.open(file) as image:
        pixels = torch.tensor(list(image.convert("RGB").tobytes())).view(image.height, image.width, 3)
    return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 0) / 255, 20)


def test_every_asset_is_small_and_listed_with_its_code_and_source() -> None:
    listed = dict(
        re.findall(r"^\| `([\w-]+\.(?:png|jpg))` \|.*?\| `([\w/.]+)`", (ASSETS / "README.md").read_text(), flags=re.M)
    )
    files = {file for file in ASSETS.iterdir() if file.suffix in (".png", ".jpg")}
    for file in files:
        assert file.stat().st_size < 200_000, file
        if not file.name.startswith("explained-"):
            assert file.name in listed
    for name, code in listed.items():
        assert ASSETS / name in files
        ast.parse((ROOT / code).read_text())


def test_a_function_that_is_not_traced_is_named_and_starred() -> None:
    """Else Swin's attention counts as one kernel, and looks like a gain."""
    nodes = torch.fx.Graph()
    x = nodes.placeholder("x")
    nodes.call_function(torch.relu, (x,))
    nodes.call_function(torchvision.ops.stochastic_depth, (x, 0.5, "row"))
    assert compiled.untraced(torch.fx.GraphModule(torch.nn.Module(), nodes)) == ["stochastic_depth"]
    assert compiled.untraced(torch.nn.ReLU()) == []
    shown = {
        of: [text.get_text() for text in charts.kernels_left({"net": charts.Left(9, 4, of, 5)}).findobj(Text)]
        for of in (True, False)
    }
    assert [any("*" in text for text in shown[of]) for of in (True, False)] == [True, False]
