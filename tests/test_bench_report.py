"""What is made of results: verdicts, comparisons, reports. The results are made up."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import report, results_file
from bench.__main__ import main
from bench.compare import compare
from bench.harness import Contest

from .made_up_results import BASE, FAST, H100, SLOW, TIMES, made_up_run, written

Spoil = Callable[[dict[str, Any]], Any]


SECTIONS = (
    "Losses and wins", "Where these numbers come from", "Every case", "Roofline", "Memory", "Kernels, compiled", "Error",
    "Everything",
)  # fmt: skip


KERNEL = {
    "case": "body", "pass": "forward", "kernel": "conv2d_fwd_kernel", "dtype": "bfloat16", "flops": 10**9, "bytes_least": 10**7,
    "registers": 96, "spills": 0, "shared_bytes": 2048, "loop_instructions": 170, "matrix_instructions": 8, "loads": {"128": 4},
    "stores": {"128": 2}, "modelled_us": 12.0, "bound": "L2", "gpu": H100.name, "arch": "sm_90",
}  # fmt: skip


def test_impossible_rows_are_marked_and_nothing_is_concluded_from_them(tmp_path: Path) -> None:
    run = made_up_run(TIMES, gpu=True)
    run["benchmarks"][3]["extra_info"]["impossible"] = "aten: 1 us is faster than the floor, 2 us"
    found = results_file.load(written(tmp_path / "run.json", run))
    assert [duel.ours.case for duel in found.duels] == ["lost.forward"]
    report.write(tmp_path / "run.json", tmp_path)
    page, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for text in (page, markdown):
        assert "loses 1 comparisons, wins 0," in text
        assert "IMPOSSIBLE measurements, from which nothing is concluded: 1." in text
        assert "1 us is faster than the floor, 2 us" in text
    assert page.count('<tr class="impossible">') == 2
    measured = next(s for s in report.sections(found, []) if s.title == "Roofline").pictures[0].draw()
    assert sum(line.get_marker() == "o" for line in measured.axes[0].lines) == 3
    # nor compared with
    code, text = _compare(made_up_run(TIMES, gpu=True), run, tmp_path)
    assert code == 0
    assert "won.forward in B, aten: 1 us is faster than the floor, 2 us: left out" in text


def test_impossible_rows_are_named_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_up_run(TIMES, gpu=True)
    run["benchmarks"][3]["extra_info"]["impossible"] = "aten: too fast"
    assert main(["report", str(written(tmp_path / "run.json", run))]) == 0
    assert capsys.readouterr().out.endswith(
        "IMPOSSIBLE, and nothing is concluded from it: won.forward, aten: too fast\n"
    )


def test_verdicts_come_from_graphs_where_both_have_one(tmp_path: Path) -> None:
    """By events, launches are in the time of ours: it loses. What the GPU does is faster than the other's."""
    run = made_up_run(
        {("a", "torchops"): SLOW, ("a", "aten"): BASE, ("b", "torchops"): SLOW, ("b", "aten"): BASE}, gpu=True
    )
    for number, graph in ((0, FAST), (1, BASE), (2, FAST)):
        run["benchmarks"][number]["extra_info"]["graph_ms"] = list(graph)
    found = results_file.load(written(tmp_path / "run.json", run))
    first, second = found.duels
    assert (first.verdict, second.verdict) == ("win", "loss")
    assert first.ms == pytest.approx((0.5, 1.0))
    assert first.ratios == pytest.approx((0.5, 0.5, 0.6 / 1.1), rel=0.1)
    assert second.ms == pytest.approx((2.0, 1.0))
    # compared as graphs where all of both runs have them
    worse = json.loads(json.dumps(run))
    worse["benchmarks"][0]["extra_info"]["graph_ms"] = [2 * t for t in FAST]
    code, text = _compare(run, worse, tmp_path)
    assert code == 1
    assert re.search(r"a +1 +torchops +0.5 +1 +2.00 +2.00", text)


def test_inductor_is_judged_by_the_race_it_was_in(tmp_path: Path) -> None:
    run = made_up_run({("a", "torchops"): BASE, ("a", "aten"): BASE, ("b", "torchops"): BASE, ("a", "inductor"): BASE})
    run["benchmarks"][3]["extra_info"]["torchops_ms"] = list(SLOW)
    found = results_file.load(written(tmp_path / "run.json", run))
    assert [row.key[0] for row in found.rows] == ["a", "a", "a", "b"]
    verdicts = {duel.other.provider: (duel.verdict, duel.ratio) for duel in found.duels}
    assert verdicts["aten"] == ("even", 1.0)
    assert verdicts["inductor"][0] == "loss"
    assert verdicts["inductor"][1] == pytest.approx(2.0, rel=0.1)
    assert _compare(run, run, tmp_path)[0] == 0
    spoiled = json.loads(json.dumps(run))
    spoiled["benchmarks"][3]["extra_info"]["torchops_ms"] = [1.0]
    with pytest.raises(results_file.BadRunError):
        results_file.load(written(tmp_path / "spoiled.json", spoiled))


def test_a_contest_held_without_pytest_makes_the_same_rows(tmp_path: Path) -> None:
    times = {"torchops": [3e-3, 2e-3, 4e-3], "torchops (graph)": [1e-3] * 3, "aten": [2e-3] * 3}
    info = {"case": "a", "threads": "gpu"}
    one = Contest(times, {"torchops": 1.0, "aten": 2.0}, 10**6, 10**9, info, no_graph={"aten": "why"})
    run = {
        **made_up_run({}, gpu=True),
        "benchmarks": [results_file.entry(one, name, "pooling") for name in ("torchops", "aten")],
    }
    ours, aten = results_file.load(written(tmp_path / "run.json", run)).rows
    assert (ours.family, ours.times, ours.graph) == ("pooling", (3e-3, 2e-3, 4e-3), (1e-3,) * 3)
    assert (aten.graph, aten.info["no_graph"]) == ((), "why")
    # rates are those of the graph
    assert ours.info["tflops"] == pytest.approx(1.0)
    assert aten.info["tflops"] == pytest.approx(0.5)
    assert results_file.Duel(ours, aten).verdict == "loss"


def _compare(a: dict[str, Any], b: dict[str, Any], folder: Path, threshold: float = 0.05) -> tuple[int, str]:
    console = Console(record=True, width=160, file=io.StringIO())
    code = compare(written(folder / "a.json", a), written(folder / "b.json", b), threshold, console)
    return code, console.export_text()


def test_compare_finds_a_planted_regression_first(tmp_path: Path) -> None:
    worse = {**TIMES, ("won.forward", "torchops"): tuple(1.5 * t for t in FAST)}
    code, text = _compare(made_up_run(TIMES), made_up_run(worse), tmp_path)
    assert code == 1
    first = text.splitlines()[1]
    assert "won.forward" in first
    assert "SLOWER" in first
    assert "1.50" in first
    assert "1 of 2 slower" in text


def test_compare_ignores_noise_and_drift(tmp_path: Path) -> None:
    """Everything takes twice the time, and the rounds of one provider scatter by a fifth."""
    noisy = {name: tuple(2 * t for t in found) for name, found in TIMES.items()}
    noisy["lost.forward", "torchops"] = (3.5, 4.2, 4.3, 5.0, 4.4)
    code, text = _compare(made_up_run(TIMES), made_up_run(noisy), tmp_path)
    assert code == 0, text
    assert "0 of 2 slower" in text


def test_compare_takes_a_threshold(tmp_path: Path) -> None:
    worse = {**TIMES, ("won.forward", "torchops"): tuple(1.5 * t for t in FAST)}
    assert _compare(made_up_run(TIMES), made_up_run(worse), tmp_path, 0.6)[0] == 0


def test_compare_calls_it_faster(tmp_path: Path) -> None:
    better = {**TIMES, ("lost.forward", "torchops"): FAST}
    code, text = _compare(made_up_run(TIMES), made_up_run(better), tmp_path)
    assert code == 0
    assert "faster" in text


def test_compare_warns_of_what_differs(tmp_path: Path) -> None:
    other = {**TIMES, ("new.forward", "torchops"): FAST, ("new.forward", "aten"): BASE}
    _, text = _compare(made_up_run(TIMES), made_up_run(other, gpu=True, torch="2.11.0"), tmp_path)
    assert f"not comparable: gpu: none in A, {H100.name} in B" in text
    assert "not comparable: torch: 2.14.1 in A, 2.11.0 in B" in text
    assert "not comparable: only in B: new.forward (aten, 1 threads), new.forward (torchops, 1 threads)" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("{", "is no JSON"), ("[]", "is no result"), ('{"benchmarks": [1]}', "is no result"),
     ('{"benchmarks": []}', "holds no case"), ("\xff", "is no")],
)  # fmt: skip
def test_bad_files_are_named_in_a_line(content: str | None, said: str, tmp_path: Path) -> None:
    good, bad = written(tmp_path / "good.json", made_up_run(TIMES)), tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content, encoding="latin-1")
    console = Console(record=True, width=200, file=io.StringIO())
    assert compare(good, bad, 0.05, console) == 2
    text = console.export_text()
    assert said in text
    assert str(bad) in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run["benchmarks"][0]["stats"].update(data=[1.0, 2.0]),
        lambda run: run["benchmarks"][0]["stats"].update(data=[0.0] * 5),
        lambda run: run["benchmarks"][0]["extra_info"].pop("case"),
        lambda run: run.pop("machine_info"),
    ],
)
def test_spoiled_runs_are_refused(spoil: Spoil, tmp_path: Path) -> None:
    run = made_up_run(TIMES)
    spoil(run)
    with pytest.raises(results_file.BadRunError):
        results_file.load(written(tmp_path / "run.json", run))


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_report_has_every_section_and_loads_nothing(gpu: bool, tmp_path: Path) -> None:
    written(tmp_path / "kernels.json", {"kernels": [KERNEL]})
    report.write(written(tmp_path / "run.json", made_up_run(TIMES, gpu=gpu)), tmp_path)
    page, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for title in SECTIONS:
        assert f">{title}</h2>" in page
        assert f"## {title}" in markdown
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import|fetch\(""", page)
    assert all((tmp_path / name).exists() for name in re.findall(r"\]\(([^)]+)\)", markdown))
    assert "012345678" in page
    assert "with changes" in page


def test_losses_are_first_and_marked(tmp_path: Path) -> None:
    report.write(written(tmp_path / "run.json", made_up_run(TIMES)), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "loses 1 comparisons, wins 1," in page
    row = re.search(r'<tr class="(\w*)"><td>([^<]+)</td>', page)
    assert row is not None
    assert row.groups() == ("loss", "lost.forward")


def test_numbers_have_units(tmp_path: Path) -> None:
    run = results_file.load(written(tmp_path / "run.json", made_up_run(TIMES)))
    for section in report.sections(run, [KERNEL]):
        for table in section.tables:
            for column, values in zip(table.columns, zip(*table.rows, strict=True), strict=True):
                number = all(re.fullmatch(r"[\d.e+-]+", value) for value in values)
                assert not number or "," in column, f"{section.title}: {column}"


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_modelled_and_measured_points_are_told_apart(gpu: bool, tmp_path: Path) -> None:
    run = results_file.load(written(tmp_path / "run.json", made_up_run(TIMES, gpu=gpu)))
    section = next(s for s in report.sections(run, [KERNEL]) if s.title == "Roofline")
    drawn = section.pictures[0].draw()
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    modelled = ["MODELLED, not measured: forward"]
    assert labels == (["measured: torchops", "measured: aten", *modelled] if gpu else modelled)
    points = [line for line in drawn.axes[0].lines if line.get_marker() in ("o", "D")]
    hollow = {line.get_marker(): line.get_markerfacecolor() == "none" for line in points}
    assert hollow == ({"o": False, "D": True} if gpu else {"D": True})
    assert "MODELLED" in section.words[0] or gpu
