"""The figures of README and docs: each comes from a file that says where it comes from, and none stands in prose."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import kept, report
from bench.blocks import BLOCKS
from bench.lookup import Results, time
from bench.pages import ROOT, PageError, filled, pages, prose_figures, stale

FILES = [file for file in sorted(kept.RESULTS.glob("*/*.json")) if kept.holds_figures(file)]
FOLDERS = sorted({file.parent for file in FILES if not (file.parent / "results.json").exists()})
PAGE = ROOT / "docs" / "benchmarks" / "page.md"


def test_all_figures_of_the_pages_are_fresh() -> None:
    assert list(stale()) == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_figure_stands_in_prose(page: Path) -> None:
    assert prose_figures(page.read_text()) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [("takes 1.2x of it, 31 us", 2), ("98.5% of 12 MiB", 2), ("35 bytes a pixel", 1), ("3 GB/s, 4 images/s", 2),
     ("above 1x, near 1.000x, 3 x (4 + 5)", 0), ("1.1x", 1),
     ("a 3x3 window, 3 x 3 pixels, 4 layers, version 2.14", 0), ("`--threshold 5%`", 0), ("```\n9 ms\n```", 0),
     ("<!-- figures: losses -->9 ms<!-- /figures -->, and 8 ms", 1), ("[report](a-9x/report.md)", 0)],
)  # fmt: skip
def test_what_a_figure_in_prose_is(text: str, count: int) -> None:
    assert len(prose_figures(text)) == count


def test_a_block_is_filled_and_says_where_it_comes_from() -> None:
    text = "before\n\n<!-- figures: epochs -->\nold\n<!-- /figures -->\n\nafter\n"
    new = filled(PAGE, text, Results())
    assert "old" not in new
    assert "| lenet, digits | 1 |" in new
    assert "<small>Measured: AMD EPYC" in new
    assert "[report](../../bench/results/cpu-AMD-EPYC" in new
    assert new.startswith("before\n\n<!-- figures: epochs -->\n|")
    assert new.endswith("<!-- /figures -->\n\nafter\n")
    assert filled(PAGE, new, Results()) == new


def test_transcribed_figures_say_so_and_name_all_commits_of_their_file() -> None:
    said = filled(PAGE, "<!-- figures: becomes -->\n<!-- /figures -->", Results())
    assert "; commit c54b710, 392ca5c, 70be2d6; 2026-11-25; transcribed; [report]" in said


def test_a_sentence_stands_within_a_line() -> None:
    new = filled(PAGE, "So: <!-- figures: compiled-summary -->?<!-- /figures --> It holds.", Results())
    assert len(new.splitlines()) == 1
    assert new.startswith("So: <!-- figures: compiled-summary -->With Inductor this backend takes ")
    assert "<small>" not in new


@pytest.mark.parametrize(
    ("text", "said"),
    [("<!-- figures: nothing -->\n<!-- /figures -->", "'nothing'"), ("<!-- figures: losses -->\n", "not closed"),
     ("<!-- /figures -->", "not closed"), ("<!-- figures: losses -->?<!-- /figures -->", "'losses' is a table")],
)  # fmt: skip
def test_what_is_wrong_with_a_block_is_said(text: str, said: str) -> None:
    with pytest.raises(PageError, match=said) as problem:
        filled(PAGE, text, Results())
    assert str(PAGE) in str(problem.value)


def test_stale_blocks_are_named(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "docs").mkdir()
    block = "<!-- figures: losses -->\n{}\n<!-- /figures -->\n"
    good = filled(tmp_path / "README.md", block.format("old"), Results())
    (tmp_path / "README.md").write_text(good)
    (tmp_path / "bench" / "README.md").write_text(good.replace("3.65x", "0.65x"))
    (tmp_path / "docs" / "page.md").write_text("<!-- figures: gains -->\n<!-- /figures -->\n")
    # the links of a page in a folder are others
    first, second = list(stale(tmp_path))
    assert first.startswith(f"{tmp_path / 'bench' / 'README.md'}: its figures are stale")
    assert "no figures are called 'gains'; there are readme, conclusions, " in second


def test_the_readme_shows_losses_and_both_kinds() -> None:
    rows = [line.split(" | ") for line in Results().block(BLOCKS["readme"]).text.splitlines()[2:]]
    assert len(rows) <= 13
    measured = [row for row in rows if row[-1].startswith("measured")]
    ratios = [float(row[3].rstrip("x")) for row in measured]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 1 > ratios[-1]
    assert {row[-1] for row in rows} == {"measured |", "modelled |"}


def test_times_have_units() -> None:
    assert [time(s) for s in (1.04e-5, 9.996e-4, 0.0196, 5.24)] == ["10.4 us", "1 ms", "19.6 ms", "5.24 s"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_files_of_figures_say_where_they_come_from(file: Path) -> None:
    held = kept.read(file)
    assert held.tables
    assert all(table.rows and table.texts() for table in held.tables.values())
    assert (held.provenance["kind"] == "modelled") == file.parent.name.startswith("modelled-")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_reports_are_of_the_files_beside_them(folder: Path, tmp_path: Path) -> None:
    report.write(folder, tmp_path)
    assert (tmp_path / "report.md").read_text() == (folder / "report.md").read_text()


def test_figures_are_written_and_read(tmp_path: Path) -> None:
    columns = (kept.Column("what"), kept.Column("time", "us", ".1f"), kept.Column("count", form="d"))
    table = kept.Table("a", "A table", columns, [["x [1, 2]", 1.25, 3], ["y", None, 4]], "A note.", True)
    told = kept.about("measured", "a command", "a method", threads="1")
    kept.write(tmp_path / "new" / "a.json", told, [table], {"raw": {"x": [1, 2]}})
    held = kept.read(tmp_path / "new" / "a.json")
    assert held.tables == {"a": table}
    assert held.provenance == told
    assert held.found == kept.found(tmp_path / "new" / "a.json") == {"raw": {"x": [1, 2]}}
    assert kept.found(tmp_path / "none.json") == {}
    assert kept.printed(table).splitlines() == [
        "| what | time, us | count |", "|---|--:|--:|", "| x [1, 2] | 1.2 | 3 |", "| y | - | 4 |",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("{", "no file of figures"), ('{"provenance": {}, "tables": []}', "machine"),
     ('{"provenance": {"kind": "guessed"}, "tables": []}', "does not say where"), ('{"tables": []}', "no file of figures")],
)  # fmt: skip
def test_files_that_hold_no_figures_are_named(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(kept.BadFiguresError, match=said) as problem:
        kept.read(file)
    assert str(file) in str(problem.value)
