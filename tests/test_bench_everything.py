"""`python -m bench all`: parts run in turn, what is there is kept, and what fails is named while the rest goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from bench import compiled, everything, finetune, kept, model_pooling, published, throughput, training
from bench.__main__ import main
from bench.everything import PARTS, Asked, Part

WRITES = """
import sys
from bench import kept
from pathlib import Path
file = Path(sys.argv[sys.argv.index("--file") + 1])
table = kept.Table("a", "A table", (kept.Column("what"),), [["something"]])
kept.write(file, kept.about("measured", "a command", "a method", threads="1"), [table])
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Two parts that a test wrote and one that lacks its files, in an empty folder of results."""
    (tmp_path / "part_that_writes.py").write_text(WRITES)
    (tmp_path / "part_that_fails.py").write_text("import sys\nsys.exit(3)\n")
    parts = (
        Part("bad", 1, "fails", "part_that_fails"),
        Part("good", 1, "writes a file", "part_that_writes"),
        Part("far", 1, "needs files", "part_that_fails", needs=lambda asked: "no files"),
    )
    monkeypatch.setattr(everything, "PARTS", parts)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(kept, "RESULTS", tmp_path / "elsewhere")
    found = Asked(tmp_path / "out", tmp_path / "results")
    monkeypatch.setattr(everything, "Asked", lambda out, **files: found)
    return found


def test_a_part_that_fails_is_named_and_the_rest_goes_on(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--out", str(asked.out)]) == 1
    said = capsys.readouterr().out
    assert "bad: exit code 3, " in said
    assert "good: ok, " in said
    assert "left out: no files" in said
    assert "failed: bad; run again" in said
    assert sorted(path.name for path in asked.out.iterdir()) == ["good.json", "report.md"]
    assert "| something |" in (asked.out / "report.md").read_text()


def test_what_is_there_is_kept_unless_asked(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--only", "good"]) == 0
    written = (asked.out / "good.json").stat().st_mtime_ns
    assert main(["all", "--only", "good"]) == 0
    assert "kept: its file is there" in capsys.readouterr().out
    assert (asked.out / "good.json").stat().st_mtime_ns == written
    assert main(["all", "--only", "good", "--again"]) == 0
    assert (asked.out / "good.json").stat().st_mtime_ns > written


def test_a_dry_run_lists_the_parts_and_runs_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert all(part.name in said for part in PARTS)
    assert "no photos" in said
    assert not (tmp_path / "out").exists()


def test_parts_are_programs_that_take_their_options(tmp_path: Path) -> None:
    asked = Asked(tmp_path, photos=tmp_path / "stamps", root=tmp_path / "data")
    commands = {part.name: part.command(asked) for part in PARTS}
    modules = [command[2] for command in commands.values()]
    assert all(
        (everything.ROOT / (module.replace(".", "/") + ".py")).exists() for module in modules if module != "bench"
    )
    assert commands["fine-tuning"][3:] == [
        "--photos",
        str(tmp_path / "stamps"),
        "--file",
        str(tmp_path / "fine-tuning.begun"),
    ]
    assert commands["training"][3:5] == ["--root", str(tmp_path / "data")]
    assert commands["results"][3:] == ["--out", str(tmp_path)]
    assert commands["modelled-conv2d"][3:] == []


@pytest.mark.parametrize("option", ["--photos", "--pokemon", "--types", "--root", "--isbi"])
def test_what_parts_need_has_to_be_there(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["all", "--dry-run", option, str(tmp_path / "none")])
    assert ended.value.code == 2
    assert f"argument {option}: '{tmp_path / 'none'}' is no " in capsys.readouterr().err


@pytest.mark.parametrize("program", [model_pooling, published])
def test_programs_without_options_write_nothing_when_given_one(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--file", "x.json"])
    monkeypatch.setattr(kept, "write", lambda *given: pytest.fail("a file is written"))
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert "unrecognized arguments: --file x.json" in capsys.readouterr().err


@pytest.mark.parametrize("program", [compiled, finetune, throughput, training])
def test_a_file_to_be_added_to_has_to_be_one_of_figures(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.json"
    file.write_text("{")
    monkeypatch.setattr(sys, "argv", ["program", "--file", str(file)])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert f"argument --file: {file} is no file of figures" in capsys.readouterr().err


def test_fine_tuning_names_a_folder_that_holds_no_stamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--photos", str(tmp_path), "--file", str(tmp_path / "new.json")])
    with pytest.raises(SystemExit):
        finetune.main()
    assert f"argument --photos: '{tmp_path}' holds no stamps" in capsys.readouterr().err


def test_training_leaves_out_what_has_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.main(["isbi2012", "--file", str(tmp_path / "training.json")])
    assert capsys.readouterr().out == "isbi2012 is left out: --isbi does not say where its files are\n"
    assert not (tmp_path / "training.json").exists()


def test_training_tells_the_last_epoch() -> None:
    unet = {"val_loss": 0.1, "val_iou": 0.8512, "epoch": 20, "seconds": 107.6, "recognised": {}}
    diffusion = {"val_loss": 0.1, "seconds": 168.0, "recognised": {"real": 0.99, "DDPM, 500 steps": 0.94}}
    assert training.table({"diffusion": diffusion, "unet": unet}).texts() == [
        ["`torchops train unet`", "val_iou 0.851, last", "-", "108"],
        ["`torchops train diffusion --judge runs/lenet`",
         "LeNet is sure of real 0.990, LeNet is sure of DDPM, 500 steps 0.940, last", "60%", "168"],
    ]  # fmt: skip


def test_compiled_tells_what_was_run() -> None:
    ratios = {f"{ours}/{other}": 0.5 for ours in ("ours", "ours_eager") for other in ("inductor", "fuse", "eager")}
    first = {"ours": 3.0, "inductor": 4.0}
    timed = {"times": {"ratios": ratios, "ms": {"eager": 26.63}}, "inductor": {"first_call_cpu_s": first}}
    networks = {"resnet18": timed, "vgg11": {"inductor": {"first_call_cpu_s": first}}}
    assert compiled.table_of_times({"networks": networks}).texts() == [
        ["resnet18", "26.6", *["0.50"] * 6, "0.75"],
        ["vgg11", "-", *["-"] * 6, "0.75"],
        ["median", "-", *["0.50"] * 6, "0.75"],
    ]
    assert compiled.table_of_times({"networks": {"lenet": {"graphs": {"failed": "why"}}}}).rows == []
    assert compiled.table({"networks": {"lenet": {"graphs": {"failed": "why"}}}}).rows == []
