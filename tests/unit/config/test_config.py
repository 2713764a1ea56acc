"""Every option composes and builds; all mistakes of a configuration are reported at once."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from src.config import CONF, ROOT, compose, groups, jobs, options, quote_rounds
from src.config.composing import commands, raw
from src.config.directories import CHANGEABLE
from src.config.runs import EVERYWHERE, flat
from src.config.validating import command_class, examined, explained
from src.settings import Section
from src.types import InputError, Sampling, Turn


def is_part(file: Path) -> bool:
    """Whether a file is a part of options of the group above it, which name it in their defaults."""
    return file.read_text(encoding="utf-8").startswith(f"# @package {file.parent.parent.name}\n")


OPTIONS = [
    f"{group}/{path.stem}" for group in groups() for path in sorted((CONF / group).glob("*.yaml")) if not is_part(path)
]
QUESTIONS = CONF.parent / "tests" / "data" / "questions.jsonl"

WITH = {
    "rounds": ["rounds.n=2"],
    "rounds/search": ["rounds.probes=1"],
    "credit": ["rounds.probes=1"],
    "engine": ["model.dtype=auto"],
    "benchmark/table": ["benchmark=paper"],
}
"""Overrides that the options of a group need to be valid."""

PLACES = {"benchmark/table": "benchmark.train"}
"""Config paths of groups whose options do not belong at the path of the group's name."""

EXAMPLES = {"model.name": "embedded:tiny", "benchmark.task": "gcd", "name": "mine", "file": str(QUESTIONS)}
"""Example values of required settings, by dotted name or its last part."""

MACHINE = re.compile(
    "not installed|not accepted yet|cannot compute on|no CUDA device|revision is null; use a commit|"
    "this run was started with 1 process"
)
"""Mistakes that come from packages, accepted terms, devices or data that this machine lacks."""


def missing(node: DictConfig) -> list[str]:
    """Required settings that are not given."""
    return [key for key, value in flat(node) if value == "???"]


def example(key: str) -> str | None:
    return EXAMPLES.get(key, EXAMPLES.get(key.rpartition(".")[2]))


def contract(parent: Section, field: str) -> tuple[type, ...]:
    """Classes that a field accepts, without ``None``."""
    hint = type(parent).model_fields[field].annotation
    return tuple(one for one in (hint, *typing.get_args(hint)) if isinstance(one, type) and one is not type(None))


def commands_with(group: str) -> list[str]:
    """Commands that have a group, training first."""
    section = group.partition("/")[0]
    names = sorted(commands(), key=lambda name: name != "train")
    defaults = {name: OmegaConf.load(CONF / f"{name}.yaml").defaults for name in names}
    return [name for name, one in defaults.items() if any(section in entry for entry in one if entry != "_self_")]


def test_every_file_is_a_command_or_an_option() -> None:
    assert all(issubclass(command_class(name), Section) for name in commands())
    files = [file for file in CONF.rglob("*.yaml") if not is_part(file)]
    assert len(OPTIONS) + len(commands()) == len(files)


def tried(command: str, overrides: list[str]) -> tuple[DictConfig, Any, list[str]]:
    """Compose with example values for required settings; return the configuration, its settings and its mistakes."""
    (node, _), mistakes = explained(command, overrides)
    asked = {key: f"{key} has no value; give one with {key}=…" for key in missing(node)}
    assert set(asked.values()) <= {*mistakes, *examined(command, node)[1]}
    (node, _), mistakes = explained(command, [*overrides, *(f"{key}={example(key)}" for key in asked if example(key))])
    settings, more = examined(command, node)
    unknown = [asked[key] for key in missing(node)]
    return node, settings, [one for one in (*mistakes, *more) if one not in unknown and not MACHINE.search(one)]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_is_an_instance_of_its_groups_contract(option: str) -> None:
    group, _, name = option.rpartition("/")
    place = PLACES.get(group, group.replace("/", "."))
    chosen = f"{group}@{place}={name}" if group in PLACES else f"{group}={name}"
    for command in commands_with(group):  # not every benchmark can be trained on, for example
        node, settings, mistakes = tried(command, [*WITH.get(group, []), chosen])
        if not mistakes:
            break
    assert mistakes == []
    file = CONF / f"{option}.yaml"
    if file.read_text().startswith("# @package _global_"):  # every value of the option is in force
        own, found = dict(flat(OmegaConf.load(file))), dict(flat(node))
        own.pop("defaults", None)
        own = {key: value for key, value in own.items() if not key.startswith("hydra.")}  # composed apart
        assert {key: found[key] for key in own} == own
    if group not in EVERYWHERE and not missing(node):
        *path, field = place.split(".")
        parent = settings
        for part in path:
            parent = getattr(parent, part)
        assert isinstance(getattr(parent, field), contract(parent, field))


def test_every_reward_has_a_term_with_nonzero_weight() -> None:
    for name in options("reward"):
        reward = compose("train", [f"reward={name}"]).settings.reward
        assert any(term.weight for term in reward.terms.values())
        assert {term.at for term in reward.terms.values()} <= {"leaves", "turns"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("rounds=3", 'rounds="3"'),
        ("rounds=1,3,5", 'rounds="1","3","5"'),
        ("rounds=range(1,4)", 'rounds="1","2","3"'),
        ("rounds=choice(2,4)", 'rounds="2","4"'),
        ("rounds='7'", 'rounds="7"'),
        ("rounds=multi-round", 'rounds="multi-round"'),
        ("rounds.n=3", "rounds.n=3"),
    ],
)
def test_numbers_of_rounds_are_quoted_for_hydra(given: str, expected: str) -> None:
    assert quote_rounds([given]) == [expected]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_any_number_of_rounds_is_a_choice(n: int) -> None:
    rounds = compose("train", [f"rounds={n}", "rounds.trajectories=2"]).settings.rounds
    assert rounds.n == n
    assert rounds.widths == (8, 2, *[1] * n)[:n]


def test_values_override_the_groups_chosen_beside_them() -> None:
    settings = compose("train", ["optimizer.lr=0.5", "optimizer=adamw", "rounds.responses=3", "rounds=5"]).settings
    assert (settings.optimizer.lr, settings.rounds.responses, settings.rounds.n) == (0.5, 3, 5)


@pytest.mark.parametrize("runs", ["outputs/*", "[outputs/*,multirun/*]"])
def test_a_report_takes_one_glob_or_several(runs: str) -> None:
    assert compose("report", [f"runs={runs}"]).settings.runs in ("outputs/*", ["outputs/*", "multirun/*"])


def test_a_sweep_is_expanded_before_it_runs() -> None:
    overrides = quote_rounds(["rounds=1,3", "reward=outcome,immediate", "seed=0"])
    expanded = [compose("train", job).settings for job in jobs(overrides)]
    found = [(settings.rounds.n, next(iter(settings.reward.terms)), settings.seed) for settings in expanded]
    assert found == [(1, "outcome", 0), (1, "immediate", 0), (3, "outcome", 0), (3, "immediate", 0)]


BAD = {
    "reward=nonsense": f"reward has no option 'nonsense'; valid: {', '.join(options('reward'))}",
    "trian.steps=3": "did you mean train.steps",
    "+extra=1": "extra: there is no such setting",
    "+train.stepz=1": "train.stepz: there is no such setting; valid: steps",
    "train.problems=many": "train.problems='many': must be a whole number",
    "evaluation.keep_best=7": "evaluation.keep_best=7: must be true or false",
    "reward.normalise=never": "reward.normalise='never': must be one of after, before",
    "rounds.keep=middle": "rounds.keep='middle': must be one of head, tail",
    "rounds=0": "rounds.n=0 must be in [1, 10000]",
    "optimizer.lr=0": "optimizer.lr=0 must be in (0, 1]",
    "rounds.top_p=0.9": "rounds.top_p=0.9 truncates the sampling distribution of trained turns",
    "rounds.responses=1": "a group of 1",
    "rounds.progress_tokens=512": "leaves no room for a completion",
    "credit=luck": f"credit has no option 'luck'; valid: {', '.join(options('credit'))}",
    "algorithm.scale=batches": "algorithm.scale='batches': must be one of group, batch, mean, none",
    "benchmark.task=chian_sum": "not a reasoning-gym task; valid, e.g.: chain_sum",
    "model.name=embedded:huge": "no such embedded model; valid: tiny, tiny-drafts",
    "rounds.probes=-1": "rounds.probes=-1 must be 0 or more",
    "rounds/search=vote": "without probes a pruned candidate has no value estimate",
    "checkpoint.every=0": "checkpoint.every=0 must be 1 or more",
    "evaluation.samples=0": "evaluation.samples=0 must be 1 or more",
}


@pytest.mark.parametrize("override", BAD)
def test_a_mistake_is_named(override: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("train", [override])
    assert any(BAD[override] in problem for problem in caught.value.problems), caught.value.problems


TOGETHER = {
    ("reward=tree", "rounds.continuation=base"): "later rounds are not sampled from the policy",
    (
        "reward=tree",
        "rounds.later_top_p=0.9",
    ): "rounds.later_top_p=0.9 truncates the sampling distribution of trained turns",
    ("reward=tree", "rounds.later_temperature=0"): "makes all continuations equal",
    ("reward=process", "rounds.probes=0"): "rounds.probes=0; use 1 or more",
    ("reward=efficiency", "rounds.ending=fixed"): "rewards ending early, but rounds.ending=fixed always takes 3 rounds",
    ("rounds/carry=tail", "rounds.ending=concludes"): "all rounds continue one message",
    ("rounds/carry=tail", "rounds.carry.head=1.0"): "rounds.carry.head=1.0 must be in [0, 1)",
    ("rounds/carry=tail", "rounds.progress_tokens=512"): "leaves no room for a completion",
    ("rounds/search=value", "rounds.probes=0"): "rounds.probes=0; use 1 or more",
    ("credit=process",): "rounds.probes=0; use 1 or more",
    ("rounds/search=vote", "rounds.search.candidates=1"): "leaves nothing to choose from",
    ("rounds/search=vote", "rounds.search.keep=9"): "rounds.search.keep=9 must be from 1",
    ("reward=shared", "credit.weighting=row"): "must be one of level, turn",
    ("reward=shared", "+credit.wait=1"): "credit.wait: there is no such setting",
}
"""Settings that are valid alone, and the mistake that they are together."""


@pytest.mark.parametrize("overrides", TOGETHER, ids=" ".join)
def test_invalid_combinations_with_a_group_choice_are_refused(overrides: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        compose("train", overrides)
    assert any(TOGETHER[overrides] in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("overrides", "widths", "probes"),
    [
        (["reward=shared"], (8, 1, 1), 0),
        (["reward=process"], (8, 1, 1), 4),
        (["reward=tree"], (8, 4, 1), 0),
        (["reward=shared", "credit=first", "rounds.trajectories=2"], (8, 2, 1), 0),
    ],
)
def test_a_reward_sets_the_tree_that_its_credit_rule_needs(
    overrides: list[str], widths: tuple[int, ...], probes: int
) -> None:
    rounds = compose("train", overrides).settings.rounds
    assert (rounds.widths, rounds.probes) == (widths, probes)


def test_all_mistakes_are_reported_together_and_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import src.models.loading

    def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(src.models.loading, "load_policy", forbidden)
    monkeypatch.setattr(src.models.loading, "_from_pretrained", forbidden)
    hiding = ("rounds=0", "rounds/search=vote")  # these two suppress the mistake of a group of 1
    together = [override for override in BAD if override not in hiding]
    with pytest.raises(InputError) as caught:
        compose("train", together)
    missing = [BAD[one] for one in together if not any(BAD[one] in problem for problem in caught.value.problems)]
    assert missing == []


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["evaluation.temperature=0"], "use evaluation.samples=1"),
        (["evaluation.keep_best=true", "evaluation.every=0"], "never validates"),
        (["rounds.temperature=0"], "all responses of a group equal"),
        (["rounds.branching=[8,4]"], "must be 3 numbers of children"),
        (["algorithm.aggregation=dr_grpo", "algorithm.max_tokens=0"], "algorithm.max_tokens"),
        (["benchmark.train_size=4"], "train.problems"),
        (["algorithm=dapo", "benchmark.train_size=16"], "algorithm.max_resamples=3 samples more problems"),
        (["algorithm=reinforce++", "algorithm.max_resamples=1"], "algorithm.max_resamples=1 replaces groups"),
        (["algorithm=cispo", "algorithm.dual_clip=3"], "algorithm.dual_clip=3 bounds PPO's clipped loss"),
        (["model=hub"], "model.name"),
        (["benchmark.verify_seconds=0"], "benchmark.verify_seconds=0 must be above 0"),
        (["benchmark.threshold=2"], r"benchmark.threshold=2 must be in \(0, 1\]"),
        (["+benchmark.tests.train={}"], "a test split cannot be named train"),
        (["reward.terms={}"], "reward.terms={}: an empty mapping changes nothing; remove entries one by one"),
        (["~reward.terms.outcome", "~reward.terms.format"], "reward.terms is empty"),
        (["reward=overlong", "reward.terms.overlong.buffer=0"], r"reward.terms.overlong.buffer=0 must be in \(0, 1\]"),
        (["reward=unrepetitive", "reward.terms.repetition.size=0"], "reward.terms.repetition.size=0 must be 1 or more"),
        (["model.lora.targets=[]"], r"model\.lora\.targets=\[\] gives no projection an adapter"),
        (["model.lora=null", "model.dtype=bfloat16"], "use model.dtype=float32"),
        (["model.adapter=nowhere"], "model.adapter=nowhere: contains no LoRA adapter"),
        (["seed=0,1"], "seed=0,1: several values, where one run takes one. Sweep over them with -m, write a list as"),
        (["hydra/launcher=joblib"], "not installed; valid: basic, or .*pip install hydra-joblib-launcher"),
        (["engine.max_batch_tokens=0"], "engine.max_batch_tokens=0 must be 1 or more"),
        (["engine.max_batch_tokens=40"], "engine.max_batch_tokens=40 holds no whole turn: .* use 41 or more"),
        (["rounds.later_tokens=90", "engine.max_batch_tokens=90"], "use 91 or more"),
        (["rounds.first_tokens=9999", "engine.max_batch_tokens=9"], "use 512 or more"),
        (["benchmark=math500"], "benchmark=math500 has nothing to train on"),
        (
            ["benchmark=gsm8k", "benchmark.source=nowhere"],
            r"benchmark\.train: the file nowhere/gsm8k/train \(\.jsonl, ",
        ),
    ],
)
def test_invalid_values_and_combinations_are_refused(overrides: list[str], text: str) -> None:
    with pytest.raises(InputError, match=text):
        compose("train", overrides)


def test_a_carry_rule_of_ones_own_lives_outside_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The carry rule of the tutorial, with the setting that the tutorial adds."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    code, fields = (part.split("```", 1)[0] for part in text.split("```python\n")[1:3])
    start, setting = "from src.rounds.base import", re.search(r"^    characters: .*\n", fields, re.MULTILINE)
    assert setting is not None
    code = code.replace(start, f"from pydantic import Field\n\n{start}", 1)
    code = code.replace("    def carry", f"{setting[0]}\n    def carry")
    yaml = text.split("`conf/rounds/carry/ends.yaml`", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    (tmp_path / "rounds" / "carry").mkdir(parents=True)
    (tmp_path / "my_ends.py").write_text(code)
    (tmp_path / "rounds" / "carry" / "ends.yaml").write_text(yaml.replace("src.rounds.carry.ends", "my_ends"))
    monkeypatch.syspath_prepend(str(tmp_path))
    own = [f"hydra.searchpath=[file://{tmp_path}]", "rounds/carry=ends"]
    rounds = compose("train", own).settings.rounds
    lineage = [Turn((0,) * n, (), Sampling(9), text=f"<answer>p{n}</answer>") for n in (1, 2, 3)]
    assert [rounds.carry.carry(lineage[:n], rounds.prompts) for n in (1, 2, 3)] == ["p1", "p1\np2", "p1\np3"]
    with pytest.raises(InputError, match=r"rounds\.carry\.characters=0 must be 1 or more"):
        compose("train", [*own, "+rounds.carry.characters=0"])


@pytest.mark.parametrize("name", commands())
def test_values_of_a_command_file_are_in_force_without_overrides(name: str) -> None:
    own = OmegaConf.load(CONF / f"{name}.yaml")
    assert own.defaults[0] == "_self_"
    # weights of other models may not be installed
    small = ["model=tiny"] if any("model" in one for one in own.defaults[1:]) else []
    found = compose(name, [*small, *(f"{key}=?" for key in missing(raw(name)))]).node
    given = {str(key) for key in own if not OmegaConf.is_missing(own, str(key))} - {"defaults", "hydra"}
    plain, composed = (OmegaConf.to_container(node, resolve=False) for node in (own, found))
    assert {key: composed[key] for key in given} == {key: plain[key] for key in given}


def test_a_debug_option_changes_only_the_values_it_names() -> None:
    plain, small = compose("train").settings, compose("train", ["debug=smoke"]).settings
    assert (plain.train.steps, small.train.steps) == (150, 2)
    assert small.train.max_grad_norm == plain.train.max_grad_norm
    assert small.optimizer == plain.optimizer


def test_all_mistakes_of_a_command_line_come_in_one_error() -> None:
    overrides = [
        "reward=outcom",
        "optimizer.lrr=1",
        "train.steps=ten",
        "rounds.first_tokens=0",
        "optimizer.lr=-1",
        "rounds.top_p=0.5",
    ]
    overrides += ["rounds.responses=1", "rounds.progress_tokens=600"]
    with pytest.raises(InputError) as caught:
        compose("train", overrides)
    text = str(caught.value)
    expected = ["reward has no option 'outcom'", "did you mean optimizer.lr", "train.steps='ten'"]
    expected += ["rounds.first_tokens=0", "rounds.later_tokens=0"]
    expected += ["optimizer.lr=-1", "rounds.top_p=0.5", "a group of 1", "algorithm.scale=group", "no room"]
    assert [words for words in expected if words not in text] == []
    assert len(set(caught.value.problems)) == len(caught.value.problems)


@pytest.mark.parametrize(
    ("overrides", "texts"),
    [
        (["optimizer.lr=0", "optimizer.betas=[1,1]"], ["optimizer.lr=0 must", "optimizer.betas=[1, 1] must"]),
        (["rounds=0", "rounds.top_p=0.5"], ["rounds.n=0 must", "rounds.top_p=0.5 truncates"]),
        (
            ["rounds.branching=[8,4]", "rounds.top_p=0.5"],
            ["rounds.branching=[8, 4] must", "rounds.top_p=0.5 truncates"],
        ),
        (["credit=process", "credit.epsilon=-1"], ["credit.epsilon=-1 must", "rounds.probes=0; use 1 or more"]),
        (["train.steps=ten", "train.problems=5000"], ["train.steps='ten': must"]),
    ],
)
def test_one_mistake_hides_no_other(overrides: list[str], texts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        compose("train", overrides)
    assert [text for text in texts if not any(text in one for one in caught.value.problems)] == []
    assert len(caught.value.problems) == len(set(caught.value.problems)) >= len(texts)


def test_a_range_of_rounds_is_a_sweep_of_jobs() -> None:
    assert jobs(quote_rounds(["rounds=range(1,7,2)", "seed=5"])) == [[f'rounds="{n}"', "seed=5"] for n in (1, 3, 5)]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["train.steps={}"], "train.steps"),
        (["optimizer.lr={}"], "optimizer.lr"),
        (["model.lora=3"], "model.lora"),
        (["model.lora.rank=3"], "model.lora.rank"),
        (["rounds.carry=null"], "rounds.carry"),
        (["benchmark.params=null"], "benchmark.params"),
        (["benchmark.tests=null"], "benchmark.tests"),
        (["benchmark.tests.easy=3"], "benchmark.tests.easy"),
        (["~benchmark.tests.easy", "~benchmark.tests.hard"], "benchmark.tests"),
        (["reward.terms.format=3"], "reward.terms.format"),
        (["reward._target_=null"], "reward._target_"),
        (["rounds.carry._target_=5"], "rounds.carry._target_"),
        (["credit=5"], "credit"),
        (["credit=null"], "credit"),
        (["credit._target_=os.path"], "credit._target_"),
        (["credit._target_=src.credit.base.CreditRule"], "credit._target_"),
        (["rounds.carry._target_=src.credit.first.First"], "rounds.carry"),
        (["rounds.temperature=nan"], "rounds.temperature"),
        (["optimizer.lr=inf"], "optimizer.lr"),
        (["seed=abc"], "seed"),
        (["~reward"], "reward"),
        (["~train"], "train"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_invalid_structure_is_refused_with_the_name_of_the_setting(overrides: list[str], named: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("train", overrides)
    assert any(named in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("name", "override"),
    [("solve", "temperature=hot"), ("solve", "seed=abc"), ("report", "steps=few"), ("pretrain", "training.steps=many")],
)
def test_other_commands_check_types_too(name: str, override: str) -> None:
    with pytest.raises(InputError, match=override.partition("=")[0]):
        compose(name, [override, *(["question=?"] if name == "solve" else [])])


def test_what_a_continued_sweep_may_change_names_no_directory() -> None:
    job = OmegaConf.load(CONF / "train.yaml").hydra.job
    assert list(job.config.override_dirname.exclude_keys) == list(CHANGEABLE)
