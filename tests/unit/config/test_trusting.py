"""Recorded configurations name no code that the user did not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config import compose, resume
from src.config.runs import load
from src.types import InputError


def record(run: Path, text: str) -> Path:
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").write_text(text, encoding="utf-8")
    return run


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("optimizer: {_target_: subprocess.Popen}", "optimizer._target_=subprocess.Popen"),
        ("_target_: stranger.Train", "_target_=stranger.Train"),
        ("evaluation: {also: [{verifier: {_target_: stranger.V}}]}", "evaluation.also[0].verifier._target_=stranger.V"),
        ("a: srcs\nb: {_target_: '${a}.V'}", "b._target_="),
        ("reward: '${oc.create:\"{_target_: stranger.R}\"}'", "reward="),
        ("c: create\nreward: '${oc.${c}:x}'", "reward="),
        ("secret: '${oc.env:KEY}'", "secret="),
        ("verifier: {_target_: src.verifiers.function.Function, function: os.system}", "verifier.function=os.system"),
        ("evaluation: {also: [published, stranger.V]}", "evaluation.also[1]=stranger.V"),
        ("a: stranger.V\nevaluation: {also: ['${a}']}", "evaluation.also[0]="),
        ("a: [stranger.V]\nevaluation: {also: '${a}'}", "evaluation.also="),
        ("a: {also: [stranger.V]}\nevaluation: '${a}'", "a.also[0]=stranger.V"),
        ("optimizer: {_target_: [stranger.V]}", "optimizer._target_=['stranger.V'] is not"),
        (
            "verifier: {url: 'https://thief.example/v1', key: HF_TOKEN}",
            "verifier.url=https://thief.example/v1",
        ),
        (
            "a: x\nverifier: {url: 'http://localhost@thief.example/v1'}",
            "verifier.url=http://localhost@thief.example/v1",
        ),
        ("a: localhost\nverifier: {url: '${a}'}", "verifier.url=${a} is an address"),
        ("verifier: {url: thief.example}", "verifier.url=thief.example is an address"),
        (
            "engine: {urls: ['http://localhost:8000', 'http://thief.example:8000/v1']}",
            "engine.urls=http://thief.example:8000/v1 is an address on another machine",
        ),
        ("a: localhost\nengine: {urls: ['${a}']}", "engine.urls=${a} is an address"),
        ("a: [http://thief.example]\nengine: {urls: '${a}'}", "engine.urls=${a} is an address"),
        ("model: {pickled: true}", "model.pickled=True loads weights from pickles"),
        ("evaluation: {also: [{function: src.run.build_run}]}", "evaluation.also[0].function=src.run.build_run"),
    ],
)
def test_code_outside_src_is_refused_by_name(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(InputError) as refusal:
        load(record(tmp_path, text))
    assert place in str(refusal.value)


def test_packages_that_the_user_names_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIF_PLUGINS", "my_lab,other")
    monkeypatch.setenv("MOTIF_PLUGINS", "judge.example pickled")
    text = "verifier: {url: 'https://judge.example/v1'}\nmodel: {pickled: true}\nb: {url: 'http://localhost:8000/v1'}"
    text += "\nengine: {urls: ['http://judge.example:8000', 'http://127.0.0.1:8000']}"
    (tmp_path / "other").mkdir()
    assert load(record(tmp_path / "other", text)).model.pickled
    monkeypatch.setenv("MOTIF_PLUGINS", "my_lab,other")
    run = record(tmp_path, "a: {_target_: my_lab.A}\nb: {_target_: src.optimizers.adamw.AdamW}")
    assert load(run).a._target_ == "my_lab.A"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.steps", "train.steps: no value is given; write train.steps=<value>"),
        ("train.steps=[1", "train.steps=[1: cannot be parsed"),
        ("train.steps=60,70", "train.steps=60,70: several values"),
    ],
)
def test_a_resume_refuses_what_it_cannot_parse(argument: str, message: str, tmp_path: Path) -> None:
    compose("train").write(tmp_path)
    with pytest.raises(InputError) as caught:
        resume([f"resume={tmp_path}", argument])
    assert message in str(caught.value)


def test_addresses_that_a_resume_replaces_need_no_trust(tmp_path: Path) -> None:
    compose("train", ["engine=vllm-server", "engine.urls=['http://node1.example:8000']"]).write(tmp_path)
    with pytest.raises(InputError, match=r"engine\.urls=http://node1\.example:8000 is an address on another machine"):
        resume([f"resume={tmp_path}"])
    _, config = resume([f"resume={tmp_path}", "engine.urls=['http://node2.example:8000']"])
    assert config.settings.engine.urls == ["http://node2.example:8000"]
