"""Checkpoints are bit-exact, verified by checksums, and survive a kill at any moment."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from src.models.loading import load_policy
from src.optimizers.adamw import AdamW
from src.training import checkpoint
from src.training.checkpoint import load_state, save, save_best
from src.training.settings import Checkpoint
from src.training.state_files import load_data, save_data
from src.types import InputError
from src.utils import files
from src.utils.checkpoints import broken, latest, step_of, steps, to_continue
from tests.helpers.sections import mistakes
from tests.helpers.tiny_models import save_tiny, tiny_config, tiny_policy


class Adapter:
    """Stand-in for a policy whose adapter is one file."""

    def __init__(self, content: str = "weights") -> None:
        self.content = content

    def save(self, folder: Path) -> None:
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter" / "adapter_model.safetensors").write_text(self.content)


def write(run: Path, *at: int, keep: int = 0) -> None:
    for step in at:
        save(run, step, Adapter(f"weights of {step}"), {"position": step}, keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# round trips


def train(parameters, optimizer, schedule, count):
    """Take steps on gradients drawn from all global random generators. Returns the drawn numbers and learning rates."""
    seen = []
    for _ in range(count):
        numbers = random.random(), float(np.random.random()), float(torch.rand(1)), random.gauss(0, 1)
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter) * numbers[0] + numbers[1]
        optimizer.step()
        schedule.step()
        seen.append((*numbers, optimizer.param_groups[0]["lr"]))
    return seen


def as_older_versions_wrote_it(folder):
    """Replace the state of a checkpoint by torch's file of the same content."""
    state = load_data(folder / "trainer_state.json")
    (version, numbers, gauss), *others = state["random"]
    state["random"] = ((version, tuple(numbers.tolist()), gauss), *others)
    torch.save(state, folder / "trainer_state.pt")
    for name in ("trainer_state.json", "trainer_state.safetensors", "manifest.json"):
        (folder / name).unlink()
    checkpoint._seal(folder)


@pytest.mark.parametrize("older", [False, True])
def test_a_restored_run_continues_with_the_same_bits(tmp_path, older):
    folder = save_tiny(tmp_path / "model")
    settings = AdamW(lr=1e-2, weight_decay=0.1)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    policy = tiny_policy(folder, seed=4)
    optimizer, schedule = settings.build(policy.parameters(), 12)
    train(policy.parameters(), optimizer, schedule, 5)
    random.gauss(0, 1)  # leaves the second number of a pair in the generator
    state = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "position": {"epoch": 2}}
    saved = save(tmp_path, 5, policy, state)
    at_save = [parameter.detach().clone() for parameter in policy.parameters()]
    expected = train(policy.parameters(), optimizer, schedule, 6)
    if older:
        as_older_versions_wrote_it(saved)

    assert latest(tmp_path) == saved == tmp_path / "checkpoints" / "step_5"
    again = load_policy(tiny_config(folder), seed=99, saved=saved)
    for parameter, value in zip(again.parameters(), at_save, strict=True):
        assert torch.equal(parameter, value)
    optimizer2, schedule2 = settings.build(again.parameters(), 12)
    random.seed(77)
    np.random.seed(77)
    torch.manual_seed(77)
    restored = load_state(saved)
    assert (restored["step"], restored["position"]) == (5, {"epoch": 2})
    optimizer2.load_state_dict(restored["optimizer"])
    schedule2.load_state_dict(restored["schedule"])
    assert train(again.parameters(), optimizer2, schedule2, 6) == expected
    for parameter, value in zip(again.parameters(), policy.parameters(), strict=True):
        assert torch.equal(parameter, value)
    mine, theirs = optimizer2.state_dict()["state"], optimizer.state_dict()["state"]
    assert mine.keys() == theirs.keys()
    for key in theirs:
        for name, value in theirs[key].items():
            assert torch.equal(mine[key][name], value)


def test_saving_does_not_touch_the_generators(tmp_path):
    def numbers():
        return random.random(), float(np.random.random()), float(torch.rand(1))

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = numbers()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    write(tmp_path, 1)
    assert numbers() == expected


def test_a_checkpoint_holds_the_adapter_in_pefts_layout_and_a_checksum_of_every_file(tmp_path):
    policy = tiny_policy(save_tiny(tmp_path / "model"))
    saved = save(tmp_path, 3, policy, {})
    manifest = json.loads((saved / "manifest.json").read_text())
    found = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    assert found == {*manifest, "manifest.json"}
    state = {"trainer_state.json", "trainer_state.safetensors"}
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", *state} <= set(manifest)


# choosing the newest


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(0, [1, 2, 9, 10, 100]), (1, [100]), (2, [10, 100]), (4, [2, 9, 10, 100]), (9, [1, 2, 9, 10, 100])],
)
def test_only_the_newest_checkpoints_are_kept(tmp_path, keep, kept):
    write(tmp_path, 1, 2, 9, 10, 100, keep=keep)
    assert steps(tmp_path) == kept
    assert names(tmp_path / "checkpoints") == sorted(["latest", *(f"step_{step}" for step in kept)])
    assert latest(tmp_path).name == "step_100"
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step_100\n"
    for step in kept:
        folder = tmp_path / "checkpoints" / f"step_{step}"
        assert (folder / "adapter" / "adapter_model.safetensors").read_text() == f"weights of {step}"
        assert load_state(folder)["position"] == step


def test_the_same_step_is_not_written_twice(tmp_path):
    write(tmp_path, 4)
    save(tmp_path, 4, Adapter("other"), {"position": -1})
    assert load_state(latest(tmp_path))["position"] == 4


@pytest.mark.parametrize(
    "prepare", [lambda run: None, lambda run: (run / "checkpoints" / ".step_5.tmp").mkdir(parents=True)]
)
def test_a_run_without_checkpoints_is_refused(tmp_path, prepare):
    prepare(tmp_path)
    assert steps(tmp_path) == []
    with pytest.raises(InputError, match="holds no complete checkpoint to continue from") as caught:
        latest(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "Start the run again." in str(caught.value)


def test_folders_with_other_names_are_ignored(tmp_path):
    write(tmp_path, 3)
    for name in (".step_5.tmp", "step_x", "step_7.old", "best"):
        (tmp_path / "checkpoints" / name).mkdir()
    assert steps(tmp_path) == [3]
    assert latest(tmp_path).name == "step_3"


def test_files_of_an_aborted_save_do_not_leak_into_the_checkpoint(tmp_path):
    leftover = tmp_path / "checkpoints" / ".step_5.tmp"
    (leftover / "adapter").mkdir(parents=True)
    (leftover / "adapter" / "old.bin").write_text("half")
    write(tmp_path, 5)
    assert names(latest(tmp_path) / "adapter") == ["adapter_model.safetensors"]
    assert not leftover.exists()


# damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x80")


DAMAGES = [
    ("trainer_state.json", cut, "trainer_state.json does not match its checksum"),
    ("trainer_state.safetensors", flip, "trainer_state.safetensors does not match its checksum"),
    ("trainer_state.safetensors", Path.unlink, "trainer_state.safetensors is missing"),
    ("adapter/adapter_model.safetensors", cut, "adapter/adapter_model.safetensors does not match its checksum"),
    ("adapter/adapter_model.safetensors", Path.unlink, "adapter/adapter_model.safetensors is missing"),
    ("manifest.json", cut, "manifest.json is not JSON"),
    ("manifest.json", binary, "manifest.json is not JSON"),
    ("manifest.json", Path.unlink, "manifest.json is missing"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES)
@pytest.mark.parametrize("older", [True, False])
def test_damage_is_reported_with_a_remedy(tmp_path, name, damage, message, older):
    write(tmp_path, *([3] if older else []), 6)
    folder = tmp_path / "checkpoints" / "step_6"
    damage(folder / name)
    with pytest.raises(InputError) as caught:
        latest(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{folder}: the checkpoint is damaged ({message}")
    remedy = f"checkpoint=3 takes the newest intact one, and resume={tmp_path} continues from it."
    assert text.endswith(remedy if older else "No other checkpoint is intact; start the run again.")


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES)
def test_a_run_continues_from_the_newest_intact_checkpoint(tmp_path, name, damage, message):
    write(tmp_path, 3, 6, 9)
    checkpoints = tmp_path / "checkpoints"
    for step in (6, 9):
        damage(checkpoints / f"step_{step}" / name)
    kept = {file.name: file.read_bytes() for file in (checkpoints / "step_9").iterdir() if file.is_file()}
    said = []
    assert to_continue(tmp_path, said.append) == checkpoints / "step_3"
    assert [f"step {step} is damaged ({message}" in line for step, line in zip((9, 6), said, strict=True)] == [True] * 2
    assert all("continues from step 3" in line for line in said)
    assert names(checkpoints) == ["damaged_step_6", "damaged_step_9", "latest", "step_3"]
    assert kept == {
        file.name: file.read_bytes() for file in (checkpoints / "damaged_step_9").iterdir() if file.is_file()
    }
    write(tmp_path, 6, 9, 12, keep=2)
    assert names(checkpoints) == ["damaged_step_6", "damaged_step_9", "latest", "step_12", "step_9"]
    damage(checkpoints / "step_12" / name)
    damage(checkpoints / "step_9" / name)
    with pytest.raises(InputError, match="No other checkpoint is intact"):
        to_continue(tmp_path, said.append)
    write(tmp_path, 15)
    damage(checkpoints / "step_15" / name)
    write(tmp_path, 14)
    assert to_continue(tmp_path, said.append) == checkpoints / "step_14"
    assert "damaged_step_15" in names(checkpoints)


def test_a_name_that_is_taken_is_not_overwritten(tmp_path):
    said = []
    for number in range(3):
        write(tmp_path, 3, 6)
        (tmp_path / "checkpoints" / "step_6" / "manifest.json").unlink()
        to_continue(tmp_path, said.append)
        assert len(said) == number + 1
    assert names(tmp_path / "checkpoints") == [
        "damaged_step_6",
        "damaged_step_6.2",
        "damaged_step_6.3",
        "latest",
        "step_3",
    ]


def test_without_checkpoints_a_run_starts_from_the_beginning(tmp_path):
    assert to_continue(tmp_path, pytest.fail) is None


def test_retention_does_not_count_checkpoints_that_lack_files(tmp_path):
    write(tmp_path, 3)
    for step in (6, 9):
        write(tmp_path, step)
        (tmp_path / "checkpoints" / f"step_{step}" / "trainer_state.safetensors").unlink()
    write(tmp_path, 12, keep=2)
    assert names(tmp_path / "checkpoints") == ["latest", "step_12", "step_3", "step_6", "step_9"]


def test_damage_of_an_older_checkpoint_does_not_matter(tmp_path):
    write(tmp_path, 3, 6)
    cut(tmp_path / "checkpoints" / "step_3" / "trainer_state.safetensors")
    assert latest(tmp_path).name == "step_6"


# crashes


class Crash(BaseException):
    """Simulated kill; no code may catch it."""


def crash(*args, **kwargs):
    raise Crash


def crash_in(monkeypatch, moment):
    match moment:
        case "adapter":
            monkeypatch.setattr(Adapter, "save", crash)
        case "half of the state":

            def half(value, path):
                path.with_suffix(".safetensors").write_bytes(b"half")
                raise Crash

            monkeypatch.setattr(checkpoint, "save_data", half)
        case "manifest":
            monkeypatch.setattr(checkpoint, "write_json", crash)
        case "sync":
            monkeypatch.setattr(os, "fsync", crash)
        case "rename":
            monkeypatch.setattr(Path, "replace", crash)


@pytest.mark.parametrize("moment", ["adapter", "half of the state", "manifest", "sync", "rename"])
def test_a_crash_while_saving_leaves_the_old_checkpoint(tmp_path, moment):
    write(tmp_path, 3, 4)
    with pytest.MonkeyPatch.context() as patch:
        crash_in(patch, moment)
        with pytest.raises(Crash):
            write(tmp_path, 5, keep=1)
    assert steps(tmp_path) == [3, 4]
    assert load_state(latest(tmp_path))["position"] == 4
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step_4\n"
    write(tmp_path, 5, keep=2)  # the next attempt succeeds
    assert names(tmp_path / "checkpoints") == ["latest", "step_4", "step_5"]
    assert load_state(latest(tmp_path))["position"] == 5


@pytest.mark.parametrize("moment", ["write_text", "rmtree"])
def test_a_crash_after_the_rename_leaves_the_new_checkpoint(tmp_path, moment):
    write(tmp_path, 3, 4)
    with pytest.MonkeyPatch.context() as patch:
        if moment == "write_text":
            patch.setattr(checkpoint, "write_text", crash)
        else:
            remove = checkpoint.shutil.rmtree
            patch.setattr(checkpoint.shutil, "rmtree", lambda path, *a, **k: remove(path, *a, **k) if k else crash())
        with pytest.raises(Crash):
            write(tmp_path, 5, keep=1)
    assert load_state(latest(tmp_path))["position"] == 5
    write(tmp_path, 6, keep=1)
    assert names(tmp_path / "checkpoints") == ["latest", "step_6"]


def test_saving_the_best_replaces_weights_and_step(tmp_path):
    best = tmp_path / "checkpoints" / "best"
    for content, step, accuracy in (("first", 4, 0.25), ("second", 12, 0.5)):
        save_best(tmp_path, step, accuracy, Adapter(content))
        assert (best / "adapter" / "adapter_model.safetensors").read_text() == content
        assert json.loads((best / "step.json").read_text()) == {"step": step, "validation_accuracy": accuracy}
        assert step_of(best) == step
        assert set(json.loads((best / "manifest.json").read_text())) == {
            "adapter/adapter_model.safetensors",
            "step.json",
        }
        assert broken(best) == []
    assert names(tmp_path / "checkpoints") == ["best"]
    assert steps(tmp_path) == []


@pytest.mark.parametrize("moment", ["adapter", "manifest", "sync", "exchange"])
def test_a_crash_while_saving_the_best_leaves_the_old_one(tmp_path, moment):
    save_best(tmp_path, 4, 0.25, Adapter("first"))
    with pytest.MonkeyPatch.context() as patch:
        if moment == "exchange":
            patch.setattr(files, "exchange", crash)
        else:
            crash_in(patch, moment)
        with pytest.raises(Crash):
            save_best(tmp_path, 8, 0.5, Adapter("second"))
    best = tmp_path / "checkpoints" / "best"
    assert (best / "adapter" / "adapter_model.safetensors").read_text() == "first"
    assert (step_of(best), broken(best)) == (4, [])
    assert names(tmp_path / "checkpoints") == ["best"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "checkpoint.every=0 must be 1 or more"),
        ({"keep": -1}, "checkpoint.keep=-1 must be 0 or more"),
    ],
)
def test_a_mistake_names_the_setting(settings, message):
    assert mistakes(Checkpoint, "checkpoint") == []
    assert mistakes(Checkpoint, "checkpoint", **settings) == [message]


# untrusted files


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_payload_in_the_state_does_not_run(tmp_path: Path) -> None:
    torch.save({"optimizer": Payload(tmp_path / "ran")}, tmp_path / "trainer_state.pt")
    with pytest.raises(InputError, match="could run code"):
        load_state(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_holds_nothing_that_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 3)
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: pytest.fail("unpickles"))
    assert load_state(latest(tmp_path))["position"] == 3
    assert {file.suffix for file in latest(tmp_path).rglob("*.*")} == {".json", ".safetensors"}


@pytest.mark.parametrize("value", [None, [], [1, 2, 3, 4], [[3, [1], None], ["MT19937", [1], 0, 0, 0.0], 1, []]])
def test_states_of_generators_that_are_none_are_refused(tmp_path: Path, value: object) -> None:
    save_data({"random": value}, tmp_path / "trainer_state.json")
    with pytest.raises(InputError, match="no states of random number generators"):
        load_state(tmp_path)


def test_states_of_older_versions_load(tmp_path: Path) -> None:
    np.random.seed(5)
    old = random.getstate(), np.random.get_state(), torch.get_rng_state(), []
    expected = np.random.random(3).tolist()
    torch.save({"random": old}, tmp_path / "trainer_state.pt")
    load_state(tmp_path)
    assert np.random.random(3).tolist() == expected
