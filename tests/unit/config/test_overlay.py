"""``run=`` takes the settings of that run, with the changes of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from src.benchmarks.reasoning_gym import ReasoningGym
from src.config import Config, build, compose, load_choices, overlay, recorded
from src.config.building import locate
from src.config.migrating import CREDIT, TARGETS, migrated
from src.config.runs import flat
from src.credit.base import CreditRule
from src.engines.vllm import VLLM
from src.rounds.carry.answer import Answer
from src.rounds.carry.history import History
from src.rounds.multi_round import MultiRound
from src.rounds.search.vote import Vote
from src.settings import Section
from src.types import InputError
from src.verifiers.math import Math
from src.verifiers.own import Own
from src.verifiers.published import Published
from tests.conftest import run_small

SHARED = ("seed", "model", "rounds", "benchmark", "verifier", "engine", "evaluation")
"""Sections that training and evaluation share."""

OTHER = [
    "train.steps=1",
    "seed=3",
    "rounds/carry=history",
    "rounds.ending=concludes",
    "rounds.branching=[3,2,1]",
    "model.context=256",
    "benchmark.test_size=12",
    "evaluation.samples=3",
    "evaluation.before=false",
    "evaluation.every=0",
]
"""Overrides of a run in which most sections differ from the defaults."""


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small(tmp_path_factory.mktemp("runs") / "other", *OTHER)


def of(run: Path, *overrides: str, command: str = "evaluate") -> Config[Any]:
    return overlay(command, [f"run={run}", *overrides])


def refused(run: Path, *overrides: str, command: str = "evaluate") -> list[str]:
    with pytest.raises(InputError) as caught:
        of(run, *overrides, command=command)
    return list(caught.value.problems)


def settings_of(config: Config[Any]) -> dict[str, Any]:
    return {name: getattr(config.settings, name) for name in SHARED}


@pytest.mark.parametrize("name", ["small_run", "other_run"])
def test_without_overrides_every_section_is_that_of_the_run(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    found = of(run)
    assert settings_of(found) == settings_of(recorded(run))
    assert found.changed == {}
    assert found.settings.run == str(run)
    assert found.settings.checkpoint is None
    assert {group: load_choices(run)[group] for group in found.choices} == found.choices
    assert set(found.choices) >= {"model", "rounds", "rounds/carry", "benchmark", "verifier", "engine"}


def test_the_runs_settings_are_not_the_commands_defaults(other_run: Path) -> None:
    found, plain = of(other_run).settings, compose("evaluate").settings
    assert [name for name in SHARED if getattr(found, name) == getattr(plain, name)] == ["verifier", "engine"]
    assert (found.seed, found.model.context, found.rounds.context) == (3, 256, 256)
    assert (found.rounds.carry, found.rounds.ending, found.rounds.widths) == (History(), "concludes", (3, 2, 1))
    assert (found.benchmark.test_size, found.evaluation.samples) == (12, 3)


def test_solve_takes_the_model_and_the_rounds_of_the_run(other_run: Path) -> None:
    found, run = of(other_run, "question='1 + 1 ='", command="solve"), recorded(other_run).settings
    assert [getattr(found.settings, name) for name in ("seed", "model", "rounds", "engine")] == [
        getattr(run, name) for name in ("seed", "model", "rounds", "engine")
    ]
    assert (found.settings.question, found.settings.temperature, found.changed) == ("1 + 1 =", 0.0, {})
    assert of(other_run, "question=?", "temperature=0.5", command="solve").changed == {"temperature": (0.0, 0.5)}


@pytest.mark.parametrize("number", ["rounds=5", 'rounds="5"', "rounds='5'"])
def test_a_number_of_rounds_keeps_the_rest_of_the_strategy(other_run: Path, number: str) -> None:
    run, found = recorded(other_run).settings, of(other_run, number)
    assert found.settings.rounds == run.rounds.replace(n=5, branching=None)
    assert found.changed == {
        "rounds.n": (3, 5),
        "rounds.branching": ([3, 2, 1], None),
        "evaluation.rounds": ([1, 3], [1, 5]),  # follows rounds.n
    }
    assert found.choices["rounds"] == "5"
    assert found.choices["rounds/carry"] == "history"


def test_a_number_of_rounds_goes_with_a_branching_of_its_own(other_run: Path) -> None:
    found = of(other_run, "rounds.branching=[2,1]", "rounds=2")
    assert found.settings.rounds.widths == (2, 1)
    assert found.changed["rounds.branching"] == ([3, 2, 1], [2, 1])
    (problem,) = refused(other_run, "rounds.n=2")  # rounds.n, unlike rounds, does not reset the branching
    assert problem.startswith("rounds.branching=[3, 2, 1] must be 2 numbers of children")


def test_a_choice_replaces_its_section(other_run: Path) -> None:
    found = of(other_run, "benchmark=chain-sum-lengths")
    assert found.settings.benchmark == compose("evaluate", ["benchmark=chain-sum-lengths"]).settings.benchmark
    assert {name: value for name, value in settings_of(found).items() if name != "benchmark"} == {
        name: value for name, value in settings_of(recorded(other_run)).items() if name != "benchmark"
    }
    assert found.choices["benchmark"] == "chain-sum-lengths"
    assert found.changed["benchmark.name"] == ("chain-sum", "chain-sum-lengths")
    assert found.changed["benchmark.test_size"] == (12, 256)
    assert found.changed["benchmark.tests.easy"] == ({}, None)
    assert found.changed["benchmark.tests.terms-9.min_terms"] == (None, 9)
    assert {key.partition(".")[0] for key in found.changed} == {"benchmark"}


def test_choosing_the_runs_own_option_again_resets_its_values(other_run: Path) -> None:
    assert of(other_run, "benchmark=chain-sum").changed == {
        "benchmark.test_size": (12, 512),
        "benchmark.train_size": (32, 4096),
        "benchmark.validation_size": (4, 128),
    }


@pytest.mark.parametrize(
    ("overrides", "carry", "n"),
    [
        (["rounds/carry=answer"], Answer(), 3),
        (["rounds/carry=answer", "rounds=4"], Answer(), 4),
        (["rounds=4", "rounds/carry=answer"], Answer(), 4),
        (["rounds=multi-round"], Answer(), 1),
        (["rounds/carry=history", "rounds=multi-round"], History(), 1),  # in any order
        (["rounds.n=2", "rounds=multi-round", "rounds/carry=history"], History(), 2),
    ],
)
def test_a_choice_in_a_nested_group_overrides_the_choice_of_the_section(
    other_run: Path, overrides: list[str], carry: Any, n: int
) -> None:
    found = of(other_run, *overrides)
    assert (found.settings.rounds.carry, found.settings.rounds.n) == (carry, n)
    assert found.choices["rounds/carry"] == {Answer(): "answer", History(): "history"}[carry]


def test_a_search_can_be_added_to_a_run_without_one(other_run: Path) -> None:
    found = of(other_run, "rounds/search=vote", "rounds.search.candidates=3")
    assert found.settings.rounds.search == Vote(candidates=3, keep=1)
    assert found.changed == {
        "rounds.search._target_": (None, "src.rounds.search.vote.Vote"),
        "rounds.search.candidates": (None, 3),
        "rounds.search.keep": (None, 1),
    }


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("evaluation.samples=7", {"evaluation.samples": (3, 7)}),
        ("evaluation.rounds=[2]", {"evaluation.rounds": ([1, 3], [2])}),
        ("evaluation.limit=null", {"evaluation.limit": (4, None)}),
        ("rounds.keep=head", {"rounds.keep": ("tail", "head")}),
        ("benchmark.tests.hard.max_terms=12", {"benchmark.tests.hard.max_terms": (11, 12)}),
        (
            "+benchmark.tests.easy.max_terms=5",
            {"benchmark.tests.easy": ({}, None), "benchmark.tests.easy.max_terms": (None, 5)},
        ),
        ("+benchmark.tests.more={}", {"benchmark.tests.more": (None, {})}),
        ("~benchmark.tests.easy", {"benchmark.tests.easy": ({}, None)}),
        ("~benchmark.tests.hard.min_terms", {"benchmark.tests.hard.min_terms": (9, None)}),
        ("model.dtype=bfloat16", {"model.dtype": ("float32", "bfloat16")}),
        ("model.context=300", {"model.context": (256, 300), "rounds.context": (256, 300)}),
        ("engine.max_batch_tokens=99", {"engine.max_batch_tokens": (65536, 99)}),
        ("seed=8", {"seed": (3, 8)}),
        ("evaluation.samples=3", {}),  # the run's own value
        ("checkpoint=1", {}),  # settings of the command, not of the run
        ("threads=2", {}),
    ],
)
def test_a_value_changes_one_key_and_its_interpolations(
    other_run: Path, override: str, changed: dict[str, tuple[Any, Any]]
) -> None:
    found = of(other_run, override)
    assert found.changed == changed
    key = override.lstrip("+~").partition("=")[0]
    before, after = (dict(flat(config.node)) for config in (of(other_run), found))
    written = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert written <= {key, key.rpartition(".")[0]}  # the other changes are interpolations


def test_every_change_is_listed_with_both_values(other_run: Path) -> None:
    overrides = [
        "rounds=2",
        "verifier=math",
        "evaluation.also=[published]",
        "evaluation.top_p=0.9",
        "engine.native=false",
    ]
    found = of(other_run, *overrides)
    assert found.changed == {
        "engine.native": ("auto", False),
        "evaluation.also": ([], ["published"]),
        "evaluation.rounds": ([1, 3], [1, 2]),
        "evaluation.top_p": (1.0, 0.9),
        "rounds.branching": ([3, 2, 1], None),
        "rounds.n": (3, 2),
        "verifier._target_": ("src.verifiers.own.Own", "src.verifiers.math.Math"),
        "verifier.memory_mb": (None, 512),
        "verifier.at_once": (1, 2),
        "verifier.seconds": (None, 2.0),
    }
    assert list(found.changed) == sorted(found.changed)
    assert (found.settings.verifier, found.settings.evaluation.also) == (Math(), [Published(anywhere=["aime2024"])])
    assert list(found.overrides) == [f"run={other_run}", *overrides]
    assert of(other_run).settings.verifier == Own()  # later overlays start from the run again


@pytest.mark.parametrize(
    ("override", "key", "was", "now"),
    [
        ("model.name=Qwen/Qwen2.5-0.5B-Instruct", "model.name", "'embedded:tiny'", "'Qwen/Qwen2.5-0.5B-Instruct'"),
        ("model.revision=abc", "model.revision", "None", "'abc'"),
        ("model.lora.r=8", "model.lora.r", "32", "8"),
        ("model.lora=null", "model.lora.alpha", "32", "None"),
        ("model.adapter=elsewhere", "model.adapter", "None", "'elsewhere'"),
        ("model=qwen2.5-0.5b", "model.name", "'embedded:tiny'", "'Qwen/Qwen2.5-0.5B-Instruct'"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "solve"])
def test_other_weights_than_the_runs_are_refused(
    other_run: Path, override: str, key: str, was: str, now: str, command: str
) -> None:
    question = ["question=?"] if command == "solve" else []
    text = f"{key}={now}: run={other_run} was trained with {was}; drop the override, or evaluate without run="
    assert text in refused(other_run, override, *question, command=command)


def test_all_mistakes_come_in_one_error(other_run: Path) -> None:
    problems = refused(
        other_run,
        "trian.steps=3",
        "rounds.kep=head",
        "benchmark=nope",
        "rounds/carry=luck",
        "evaluation.samples=0",
        "evaluation.limit=few",
        "+evaluation.smaples=2",
        "~benchmark.tests.far",
        "model.lora.r=8",
        "rounds=0",
        "seed=1,2",
        "evaluation.rounds=[1",
    )
    expected = [
        "trian.steps=3: there is no setting 'trian.steps'",
        "rounds.kep=head: there is no setting 'rounds.kep'; did you mean rounds.keep",
        "benchmark=nope: benchmark has no option 'nope'; valid: ",
        "rounds/carry=luck: rounds/carry has no option 'luck'; valid: ",
        "evaluation.samples=0 must be 1 or more",
        "evaluation.limit='few': must be a whole number or null",
        "evaluation.smaples: there is no such setting; valid: samples",
        "~benchmark.tests.far: there is no setting 'benchmark.tests.far'",
        "model.lora.r=8: run=",
        "rounds.n=0 must be in [1, 10000]",
        "seed=1,2: several values are a sweep",
        "evaluation.rounds=[1: cannot be parsed",
    ]
    assert [text for text in expected if not any(one.startswith(text) for one in problems)] == []
    assert len(problems) == len(expected) + 1  # evaluation.rounds follows rounds.n=0 and is reported too


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["train.steps=9"], "train.steps=9: there is no setting 'train.steps'"),  # a section of training
        (["reward=tree"], "reward=tree: "),
        (["~rounds"], "rounds is missing"),
        (["~rounds.carry"], "rounds.carry is missing"),
        (["rounds/carry=tail"], "rounds.ending=concludes looks for an answer in every round"),
        (
            ["rounds/search=value"],
            "rounds/search=value estimates the value of candidates from probes, but rounds.probes=0",
        ),
        (["evaluation.temperature=0"], "evaluation.samples=3 answers would be equal; use evaluation.samples=1"),
        (["evaluation.also=[own]"], "evaluation.also=own: the verifier own is already in use"),
        (["evaluation.no_system=[far]"], "benchmark=chain-sum has no such test split; valid: easy, hard"),
        (["rounds.progress_tokens=256"], "fills the whole context of 256"),
    ],
)
def test_invalid_overlays_are_refused(other_run: Path, overrides: list[str], text: str) -> None:
    problems = refused(other_run, *overrides)
    assert any(text in one for one in problems), problems


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path / "nowhere")
    assert problem.startswith(f"{tmp_path / 'nowhere'}: not a run directory (it has no .hydra/config.yaml)")
    with pytest.raises(InputError, match="names no run directory"):
        overlay("evaluate", ["rounds=3"])


def test_an_overlay_does_not_change_the_recorded_files(other_run: Path) -> None:
    files = {path: path.read_bytes() for path in (other_run / ".hydra").iterdir()}
    of(other_run, "rounds=5", "benchmark=chain-sum-lengths", "+benchmark.tests.more={}")
    assert {path: path.read_bytes() for path in (other_run / ".hydra").iterdir()} == files


def test_an_old_run_with_former_names_gives_the_same_settings(other_run: Path, tmp_path: Path) -> None:
    former: Any = OmegaConf.to_container(OmegaConf.load(other_run / ".hydra" / "config.yaml"), resolve=False)
    assert former.pop("credit") == {"_target_": "src.credit.first.First"}
    former["reward"]["credit"] = "first"
    former["engine"]["_target_"] = "src.engines.transformers.TransformersEngine"
    former["optimizer"]["_target_"] = "src.optimizers.AdamW"
    former["tracking"]["_target_"] = "src.tracking.NoTracker"
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(former), tmp_path / ".hydra" / "config.yaml")
    assert recorded(tmp_path).settings == recorded(other_run).settings
    assert settings_of(of(tmp_path, "rounds=5")) == settings_of(of(other_run, "rounds=5"))
    assert isinstance(of(tmp_path).settings.rounds, MultiRound)
    assert isinstance(of(tmp_path).settings.benchmark, ReasoningGym)


def test_every_former_name_maps_to_a_current_section() -> None:
    for target in (*TARGETS.values(), *CREDIT.values()):
        assert issubclass(locate(target), Section)
    for former, target in CREDIT.items():
        found = migrated({"reward": {"credit": former, "terms": {}}})
        assert found == {"reward": {"terms": {}}, "credit": {"_target_": target}}
        assert isinstance(build(found["credit"]), CreditRule)
    own = {"_target_": "mine.Rule", "weighting": "turn"}
    assert migrated({"reward": {"credit": own}}) == {"reward": {}, "credit": own}
    engine = {"_target_": "src.engines.vllm.VLLMEngine", "memory": 0.3, "context": 512, "lora": {"r": 8}}
    assert build(migrated({"engine": engine})["engine"]) == VLLM(memory=0.3)
