"""What the public CI asks for exists: targets, tiers, files; and it may do no more than it has to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from .release.__main__ import main as release
from .tiers import PROCESSES

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
TARGETS = set(re.findall(r"^([\w./-]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

ACTIONS = {
    "actions/checkout": {"persist-credentials", "fetch-depth", "ref"},
    "actions/setup-python": {"python-version", "cache", "cache-dependency-path"},
    "actions/upload-artifact": {"name", "path", "if-no-files-found", "retention-days"},
}
"""The actions that are used, and those of their inputs that may be given."""


def _read(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def _jobs() -> list[Any]:
    return [
        pytest.param(path, name, job, id=f"{path.stem}-{name}")
        for path in WORKFLOWS
        for name, job in _read(path)["jobs"].items()
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_nothing_else(path: Path) -> None:
    found = _read(path)
    assert found["permissions"] == {"contents": "read"}
    assert "group" in found["concurrency"]
    # YAML 1.1 reads the key `on` as true; pull_request_target would hand secrets to strangers
    assert set(found[True]) <= {"push", "pull_request", "workflow_dispatch", "schedule"}
    assert "secrets." not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("path", "name", "job"), _jobs())
def test_a_job_ends_and_its_steps_are_known(path: Path, name: str, job: dict[str, Any]) -> None:
    assert 0 < job["timeout-minutes"] <= 120
    assert "permissions" not in job
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            action, _, version = step["uses"].partition("@")
            assert re.fullmatch(r"v\d+|[0-9a-f]{40}", version), step
            assert set(step.get("with", {})) <= ACTIONS[action], step
        for target in re.findall(r"\bmake ([\w./-]+)", step.get("run", "")):
            assert target in TARGETS, target
        for module in re.findall(r"python -m (tests[\w.]*|tools[\w.]*)", step.get("run", "")):
            place = ROOT.joinpath(*module.split("."))
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module
        for key, value in re.findall(r"\$\{\{ *(\w+)\.(\w+) *\}\}", str(step)):
            assert key == "matrix", step
            assert value in job["strategy"]["matrix"], step


def test_every_tier_has_a_job() -> None:
    jobs = _read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert set(jobs["tests"]["strategy"]["matrix"]["tier"]) == set(PROCESSES) - {"gpu"}
    assert any(step.get("run", "").endswith("tests.tiers gpu") for step in jobs["gpu"]["steps"])


def test_a_machine_of_ours_runs_no_code_of_strangers() -> None:
    jobs = [(name, job) for path in WORKFLOWS for name, job in _read(path)["jobs"].items()]
    own = {name: job for name, job in jobs if "self-hosted" in job["runs-on"]}
    assert set(own) == {"gpu"}
    assert "pull_request" not in own["gpu"]["if"]
    assert re.findall(r"event_name == '(\w+)'", own["gpu"]["if"]) == ["workflow_dispatch", "push"]


def test_files_that_are_hashed_or_audited_exist() -> None:
    for path in WORKFLOWS:
        for name, job in _read(path)["jobs"].items():
            for step in job["steps"]:
                pattern = step.get("with", {}).get("cache-dependency-path")
                assert pattern is None or list(ROOT.glob(pattern)), (name, pattern)
    (audit,) = (path for path in WORKFLOWS if path.stem == "audit")
    for version in _read(audit)["jobs"]["vulnerabilities"]["strategy"]["matrix"]["python"]:
        assert (ROOT / "locks" / f"dev-{version}.txt").exists()


def test_options_of_the_release_are_those_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        release(["--help"])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    asked = re.findall(r'RELEASE="(--[\w-]+)', "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS))
    assert asked
    assert set(asked) <= known


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_whole(path: Path) -> None:
    form = _read(path)
    assert {"name", "description", "labels", "body"} == set(form)
    identifiers = [field["id"] for field in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    for field in form["body"]:
        assert field["type"] in {"textarea", "input"}
        assert field["attributes"]["label"]
        assert isinstance(field["validations"]["required"], bool)
    if path.stem != "feature":
        (check,) = (field for field in form["body"] if field["id"] == "check")
        assert "`torchops check --json`" in check["attributes"]["label"]
        assert check["validations"]["required"]


def test_updates_are_looked_for_where_versions_are_named() -> None:
    updates = _read(ROOT / ".github" / "dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions"}
    assert {update["directory"] for update in updates} == {"/"}
