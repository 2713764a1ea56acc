"""The command ``src.study``: what is missing is run, interruptions change nothing, and unplanned parts are marked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from src import config as configuration
from src.config import ROOT
from src.estimating.devices import device_named
from src.studies import running
from src.studies.jobs import Job, planned
from src.studies.recording import rebuild
from src.studies.registering import registered
from src.studies.settings import Study
from src.study import arguments, study
from src.train import train
from src.types import InputError
from tests.conftest import run_small

COMMON = ["debug=smoke", "train.threads=1", "evaluation.limit=4", "evaluation.every=0", "evaluation.rounds=[1]"]
COMMON += ["evaluation.before=false", "checkpoint.every=2", "benchmark.tests={easy: {}}"]
PLAN: dict[str, Any] = {
    "_target_": "src.studies.settings.Study",
    "question": "Does it resume?",
    "common": COMMON,
    "runs": {"two": ["rounds=2"], "one": ["rounds=1"]},
    "seeds": [0],
    "comparisons": [["one", "two"]],
}
TIMES = ("time/", "tokens_per_second")


def written(folder: Path, **changes: Any) -> Path:
    """A folder with the option ``mine`` of the group ``study``."""
    (folder / "study").mkdir(parents=True, exist_ok=True)
    (folder / "study" / "mine.yaml").write_text(json.dumps(PLAN | changes))  # JSON is YAML
    return folder


def launched(conf: Path, root: Path, *more: str) -> int:
    given = ["mine", "--config-dir", str(conf), f"root={root}", *more]
    return configuration.launch("study", study, arguments(given))


class Process:
    """Stands for the process of a job: ended with ``code``, or running until it is terminated."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = -signal.SIGTERM

    def wait(self, seconds: float) -> None:
        assert self.code is not None


def in_this_process(job: Job, log: Path) -> Process:
    """Do the work of a job without a process of its own."""
    overrides = [*job.overrides, "tracking=none"]
    train(configuration.compose("train", overrides), job.directory)
    return Process(0)


def results(root: Path) -> dict[str, Any]:
    """Metrics without times, and evaluations, of all runs by directory."""
    found = {}
    for file in sorted(root.glob("runs/*/summary.json")):
        lines = [json.loads(line) for line in (file.parent / "metrics.jsonl").read_text().splitlines()]
        steps = [{key: value for key, value in line.items() if not key.startswith(TIMES)} for line in lines]
        found[file.parent.name] = steps, json.loads(file.read_text())["evaluations"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The configuration folder and the root of an undisturbed study."""
    folder = tmp_path_factory.mktemp("study")
    conf, root = written(folder / "conf"), folder / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "begin", in_this_process)
        patch.setattr(running, "POLL", 0)
        assert launched(conf, root) == 0
    return conf, root


def test_the_report_has_the_planned_comparison(whole: tuple[Path, Path]) -> None:
    _, root = whole
    text = (root / "mine" / "report.md").read_text()
    planned_part = text.partition("## Planned comparisons")[2]
    assert "| one" in planned_part
    assert "not planned" not in text
    assert "**Not run:**" not in text
    assert {file.name for file in (root / "mine").iterdir()} >= {"plan.json", "results.csv", "before_after.png"}
    assert len(results(root)) == 2


def test_a_recorded_study_is_rebuilt_after_its_settings_have_changed(
    whole: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    conf, root = whole
    assert launched(conf, root, "--record", str(tmp_path / "record")) == 0
    assert "2 of 2 jobs are done" in capfd.readouterr().out
    text = (tmp_path / "record" / "report.md").read_text()
    assert "| one" in text.partition("## Planned comparisons")[2]
    assert not list((tmp_path / "record").rglob("*.safetensors"))
    moved = Path(shutil.move(tmp_path / "record", tmp_path / "moved"))
    (moved / "report.md").unlink()
    rebuild(moved)
    assert (moved / "report.md").read_text() == text
    plan = json.loads((moved / "plan.json").read_text())
    del plan["study"]["warmups"]  # as if studies had not had them then
    (moved / "plan.json").write_text(json.dumps(plan))
    rebuild(moved)
    assert (moved / "report.md").read_text() == text
    assert json.loads((moved / "plan.json").read_text()) == plan


def test_a_study_that_was_stopped_twice_equals_the_undisturbed_one(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    conf, root = whole
    calls: list[str] = []

    def stops(job: Job, log: Path) -> Process:
        calls.append(job.run)
        if len(calls) in (1, 3):
            signal.raise_signal(signal.SIGTERM)
            return Process(None)
        return in_this_process(job, log)

    monkeypatch.setattr(running, "begin", stops)
    for _ in range(2):
        with pytest.raises(SystemExit, match="143"):
            launched(conf, tmp_path / "root")
    assert "**Not run:**" not in (root / "mine" / "report.md").read_text()
    assert launched(conf, tmp_path / "root") == 0
    assert calls == ["two", "two", "one", "one"]
    assert results(tmp_path / "root") == results(root)
    again = len(calls)
    assert launched(conf, tmp_path / "root") == 0
    assert len(calls) == again  # nothing is missing
    assert "run the same command again to continue with train two, seed 0" in capfd.readouterr().out


def test_what_was_added_after_the_registration_is_marked(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, root = whole
    copy = Path(shutil.copytree(root, tmp_path / "root"))
    runs = {**PLAN["runs"], "again": ["rounds=2", "optimizer.lr=3e-4"]}
    conf = written(tmp_path / "conf", runs=runs, comparisons=[["again", "one"]])
    assert launched(conf, copy, "--report") == 0
    assert "not registered yet" in (copy / "mine" / "report.md").read_text()
    assert (copy / "mine" / "plan.json").read_text() == (root / "mine" / "plan.json").read_text()
    assert launched(conf, copy, "--record", str(tmp_path / "record")) == 2
    assert "is not registered; start" in capfd.readouterr().err
    monkeypatch.setattr(running, "begin", in_this_process)
    assert launched(conf, copy) == 0
    text = (copy / "mine" / "report.md").read_text()
    assert "**The plan changed after its registration:**" in text
    assert "  - run again added: `rounds=2 optimizer.lr=3e-4`" in text
    assert "  - comparison of one with two taken out" in text
    assert "| again (not planned)" in text
    planned, _, others = text.partition("## Comparisons that were not planned")
    assert "| one" in planned.partition("## Planned comparisons")[2], "the registered comparison stays"
    assert "again (not planned)" in others
    plan = json.loads((copy / "mine" / "plan.json").read_text())
    assert set(plan["study"]["runs"]) == {"two", "one"}
    assert len(plan["amendments"]) == 1
    assert launched(conf, copy) == 0
    assert len(json.loads((copy / "mine" / "plan.json").read_text())["amendments"]) == 1


def test_a_run_that_was_dropped_after_its_results_were_seen_is_reported_and_recorded(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    _, root = whole
    copy = Path(shutil.copytree(root, tmp_path / "root"))
    whole_table = (root / "mine" / "report.md").read_text().partition("## Planned comparisons")[2].split("|")
    conf = written(tmp_path / "conf", runs={"one": PLAN["runs"]["one"]}, comparisons=[])
    assert launched(conf, copy) == 0
    text = (copy / "mine" / "report.md").read_text()
    assert "**Planned, then taken out:**\n\n- run two: `rounds=2`; its finished jobs are reported" in text
    table = text.partition("## Planned comparisons")[2].split("|")
    numbers = [[cell.strip() for cell in cells if "[" in cell] for cells in (table, whole_table)]
    assert numbers[0] == numbers[1] != []
    assert "two (taken out)" in text
    assert launched(conf, copy, "--record", str(tmp_path / "record")) == 0
    assert (tmp_path / "record" / "report.md").read_text() == text


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(job: Job, log: Path) -> Process:
        return Process(1) if job.run == "two" else in_this_process(job, log)

    monkeypatch.setattr(running, "begin", fails)
    with pytest.raises(SystemExit, match="1"):
        launched(written(tmp_path / "conf"), tmp_path / "root")
    text = (tmp_path / "root" / "mine" / "report.md").read_text()
    assert "- train two, seed 0" in text
    assert "| one" in text


def test_what_starts_from_a_failed_warm_up_or_run_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []

    def fails(job: Job, log: Path) -> Process:
        started.append(f"{job.kind} {job.run}")
        return Process(1)

    monkeypatch.setattr(running, "begin", fails)
    plan = {
        "common": [*COMMON, "model.adapter=@warm"],
        "warmups": {"warm": ["model=tiny", "imitation.steps=2"]},
        "runs": {"one": ["rounds=2"]},
        "comparisons": [],
        "seeds": [0],
        "evaluations": {"more": {"overrides": ["rounds=4"], "of": ["one"]}},
    }
    with pytest.raises(SystemExit, match="1"):
        launched(written(tmp_path / "conf", **plan), tmp_path / "root")
    assert started == ["warmup warm"]
    said = capfd.readouterr().out
    assert "train one, seed 0 is given up, since this failed: warm up warm, seed 0" in said
    assert "evaluate more of one, seed 0 is given up, since this failed: train one, seed 0" in said
    assert "3 of 3 jobs failed" in said


def test_no_run_starts_after_the_planned_hours(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, root = whole
    copy = Path(shutil.copytree(root, tmp_path / "root"))
    monkeypatch.setattr(running, "begin", lambda *_: pytest.fail("a run was started"))
    conf = written(tmp_path / "conf", seeds=[0, 1], hours=1e-9, stopping="hours")
    assert launched(conf, copy) == 0
    assert "are used up; no further run starts" in capfd.readouterr().out
    assert "- train two, seed 1" in (copy / "mine" / "report.md").read_text()


def test_an_estimate_of_finished_runs_takes_nothing(
    whole: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    conf, root = whole
    assert launched(conf, root, "--estimate", "study.seeds=[0,1]") == 0
    said = capfd.readouterr().out
    assert "mean of 1 finished runs" in said
    assert "1 of 2" in said


def test_the_estimate_for_a_gpu_needs_neither_weights_nor_network(capfd: pytest.CaptureFixture[str]) -> None:
    assert configuration.launch("study", study, arguments(["table1", "--estimate", "device=H200"])) == 0
    said = capfd.readouterr().out
    assert "computed for H200" in said
    assert "Nothing was measured on this device" in said
    with pytest.raises(InputError, match="device=abacus: name one of RTX 4090"):
        device_named("abacus")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"comparisons": [["one", "three"]]}, "must be two of the runs two, one"),
        ({"runs": {"base": []}}, "this name is that of the policy before training"),
        ({"runs": {"a": ["seed=3"]}}, "the study itself sets seed"),
        ({"runs": {"a": ["model.adapter=@warm"]}, "comparisons": []}, "there is no warm-up warm"),
        (
            {
                "runs": {"a": ["model.adapter=@warm"], "b": []},
                "warmups": {"warm": []},
                "comparisons": [],
                "evaluations": {"more": {"overrides": [], "of": ["base"]}},
            },
            "a start from adapters of their own",
        ),
        ({"comparisons": [["one", "two"], ["two", "one"]]}, "two and one are compared twice"),
        ({"comparisons": [["one", "one"]]}, "compares one with itself"),
        ({"runs": {"two": ["rounds=2"], "one": ["rounds=2"]}}, "two and one have equal settings"),
        ({"stopping": "hours"}, "needs study.hours"),
        ({"seeds": [1, 1]}, "must be different numbers"),
        ({"runs": {"a": ["train.stepps=3"]}, "comparisons": []}, "stepps"),
        ({"runs": {"a": ["train.steps=0"]}, "comparisons": []}, "train.steps=0 must be 1 or more"),
    ],
)
def test_plans_that_cannot_be_carried_out_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    assert launched(written(tmp_path / "conf", **change), tmp_path / "root") == 2
    assert words in capfd.readouterr().err
    assert not (tmp_path / "root").exists()


def test_a_study_must_be_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert configuration.launch("study", study, arguments([])) == 2
    assert "no study is named" in capfd.readouterr().err


def test_command_lines_are_hydras_with_names_and_flags_in_short() -> None:
    assert arguments(["rounds", "--estimate", "root=a"]) == ["study=rounds", "estimate=true", "root=a"]
    assert arguments(["--config-dir", "mine", "a"]) == ["--config-dir", "mine", "study=a"]
    assert arguments(["study=a", "--report"]) == ["study=a", "report=true"]
    assert arguments(["a", "--record", "there"]) == arguments(["a", "--record=there"]) == ["study=a", "record=there"]
    for given in (["a", "--record"], ["a", "--record", "--report"]):
        with pytest.raises(InputError, match="--record names no folder"):
            arguments(given)
    with pytest.raises(InputError, match="quick: the study carry is named already; run one study at a time"):
        arguments(["carry", "quick"])
    for given in (["carry", "--at_once", "2"], ["carry", "--at-once=2"]):
        with pytest.raises(InputError, match="write at_once=<value>, without dashes"):
            arguments(given)


@pytest.mark.parametrize("flags", [["--estimate", "--report"], ["--report", "--record=there"]])
def test_flags_that_exclude_each_other_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert launched(written(tmp_path / "conf"), tmp_path / "root", *flags) == 2
    assert "exclude each other" in capfd.readouterr().err


@pytest.mark.parametrize("flag", ["--report", "--record=there"])
def test_a_report_of_a_study_that_was_never_started_registers_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], flag: str
) -> None:
    assert launched(written(tmp_path / "conf"), tmp_path / "root", flag) == 2
    assert "study=mine: it has not been started" in capfd.readouterr().err
    assert not (tmp_path / "root").exists()


def test_warm_ups_and_the_base_have_directories_of_their_own(tmp_path: Path) -> None:
    values = {
        "_target_": "src.studies.settings.Study",
        "question": "?",
        "common": ["benchmark=chain-sum", "model.adapter=@warm", "train.steps=3"],
        "warmups": {"warm": ["model=tiny", "imitation.steps=2"]},
        "runs": {"a": ["rounds=2"]},
        "seeds": [0, 1],
        "evaluations": {"more": {"overrides": ["rounds=4"], "of": ["a", "base"]}},
    }
    plan: Study = configuration.build(values, Study)
    jobs = planned(plan, tmp_path)
    assert [job.kind for job in jobs] == ["warmup", "train", "evaluate", "evaluate"] * 2
    warm, trained, further, base = jobs[:4]
    assert f"model.adapter={warm.directory}" in trained.overrides
    assert further.overrides[0] == f"run={trained.directory}"
    assert further.done.parent.parent == trained.directory / "evaluation"
    assert "train.steps=3" not in base.overrides
    assert f"model.adapter={warm.directory}" in base.overrides, "the policy before training has been warmed up"
    assert f"model.adapter={jobs[4].directory}" in jobs[7].overrides
    assert len({job.directory for job in jobs}) == 6
    elsewhere = planned(plan, tmp_path / "elsewhere")
    assert [job.directory.name for job in elsewhere] == [job.directory.name for job in jobs]


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json: damaged"):
        registered(tmp_path, configuration.build(PLAN, Study), [])


def test_what_was_not_planned_is_known(tmp_path: Path) -> None:
    values = PLAN | {
        "common": [*COMMON, "model.adapter=@warm"],
        "warmups": {"warm": ["model=tiny", "imitation.steps=2"]},
        "evaluations": {"more": {"overrides": ["rounds=4"], "of": ["one", "two"]}},
    }
    done = Job("train", "one", 0, (), tmp_path, Path(__file__))
    plan = registered(tmp_path, configuration.build(values, Study), [done])
    assert plan.before == ("train one, seed 0",)
    same = values | {"evaluations": {"more": {"overrides": ["rounds=4"], "of": ["one"]}}}
    longer = same | {"warmups": {"warm": ["model=tiny", "imitation.steps=3"]}, "seeds": [0, 7]}
    other = values | {"evaluations": {"more": {"overrides": ["rounds=5"]}, "new": {"overrides": ["rounds=4"]}}}
    first, second, third = (configuration.build(one, Study) for one in (same, longer, other))
    assert (plan.runs("one", first), plan.evaluates("more", first), plan.added_seeds(first)) == (True, True, [])
    assert (plan.runs("one", second), plan.added_seeds(second)) == (False, [7])
    assert (plan.runs("one", third), plan.evaluates("more", third), plan.evaluates("new", third)) == (
        True,
        False,
        False,
    )
    again = registered(tmp_path, second, [])
    assert (again.before, len(again.amendments)) == (plan.before, 1)


def started(conf: Path, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "src.study", "mine", "--config-dir", str(conf), f"root={root}"]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for(root: Path, pattern: str) -> None:
    for _ in range(3000):
        if list(root.glob(pattern)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{root}: {pattern} did not appear")


@pytest.mark.slow
def test_a_study_whose_processes_are_killed_equals_the_undisturbed_one(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    conf, root = whole
    other = tmp_path / "root"
    first = started(conf, other)
    wait_for(other, "runs/*/metrics.jsonl")
    first.terminate()
    assert first.wait(300) == 143
    second = started(conf, other)
    wait_for(other, "runs/*/summary.json")
    wait_for(other, "mine/logs/002*")
    os.kill(second.pid, signal.SIGKILL)  # its job goes on without it
    second.wait(60)
    third = started(conf, other)
    said, _ = third.communicate(timeout=600)
    assert third.returncode == 0, said
    assert results(other) == results(root)


@pytest.mark.slow
def test_a_further_evaluation_is_made_by_a_process(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "train.steps=1", "evaluation.before=false")
    out = tmp_path / "asked" / "out.json"
    out.parent.mkdir()
    job = Job("evaluate", "a", 0, (f"run={run}", "evaluation.rounds=[2]"), run, out, "more")
    assert running.begin(job, tmp_path / "log.txt").wait(600) == 0
    assert [one["rounds"] for one in json.loads(out.read_text())] == [2, 2]
