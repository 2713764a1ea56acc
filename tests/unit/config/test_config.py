"""Every option composes and builds; every mistake is found, all of them at once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from src import config as configuration
from src.config import CONF, checked, compose, jobs, quote_rounds
from src.types import InputError, Sampling, Turn

FILES = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml"))
OPTIONS = [file.removesuffix(".yaml") for file in FILES if "/" in file]
QUESTIONS = CONF.parent / "tests" / "data" / "questions.jsonl"
NEEDS = {
    "model/hub": ["model.name=embedded:tiny"],
    "model/smollm2-135m": ["model.name=embedded:tiny"],  # its weights are a package that may not be installed
    "model/qwen2.5-3b": ["model.quantization=null"],  # nor may bitsandbytes
    "benchmark/reasoning-gym": ["benchmark.task=gcd"],
    "benchmark/math500": ["+benchmark/table@benchmark.train=gsm8k-train"],
    "benchmark/aime2024": ["+benchmark/table@benchmark.train=gsm8k-train"],
    "benchmark/jsonl": [f"benchmark.train.file={QUESTIONS}", f"benchmark.tests.test.file={QUESTIONS}"],
    "benchmark/table/file": ["benchmark.train.name=mine", f"benchmark.train.file={QUESTIONS}"],
    "rounds/search/vote": ["rounds.probes=1"],
    "rounds/search/value": ["rounds.probes=1"],
}
METHODS = {
    "model": ("check",),
    "model/prompts": ("messages",),
    "rounds": ("open", "extend", "check", "check_problem", "independent"),
    "rounds/carry": ("carry|resume",),
    "rounds/search": ("rank", "check", "candidates", "keep", "probes"),
    "reward": ("score", "looks_ahead"),
    "algorithm": ("advantages", "token_advantages", "divergence", "shares", "token_loss", "check", "iterations"),
    "optimizer": ("build", "check", "factor"),
    "benchmark": ("load", "score", "check", "name", "origin"),
    "benchmark/table": ("name", "question", "answer", "file"),
    "verifier": ("scorer", "check", "name", "needs_gold"),
    "engine": ("generate",),
    "tracking": ("start", "log", "rollouts", "finish"),
}
"""What an object of each group must have; a new group must be added here."""


def test_the_number_of_files_is_known() -> None:
    assert len(FILES) == 81, "a yaml was added or removed: count it here, and see that it is covered below"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_builds_and_satisfies_its_protocol(option: str) -> None:
    group, _, name = option.rpartition("/")
    choice = f"benchmark/table@benchmark.train={name}" if group == "benchmark/table" else f"{group}={name}"
    others = {"rounds": ["rounds.n=2"], "benchmark/table": ["benchmark=paper"]}
    if option == "engine/vllm" and importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed; test_vllm.py builds it on a stand-in")
    config = checked("train", [choice, *others.get(group, []), *NEEDS.get(option, [])])
    if group == "debug":
        assert config.train.steps == {"smoke": 2, "profile": 3}[name]
        return
    if group == "experiment":  # that it composes without a mistake is all: its groups are options of their own
        return
    key = "benchmark.train" if group == "benchmark/table" else group.replace("/", ".")
    node = config
    for part in key.split("."):
        node = node[part]
    kind = configuration.section("model") if group == "model" else None
    extra = {"weights": None} if group == "engine" else {}
    built = configuration.build(node, kind, **extra)
    assert [name for name in METHODS[group] if not any(hasattr(built, one) for one in name.split("|"))] == []
    if group == "reward":
        assert configuration.credit_rule(config.reward.credit).rows
        assert all(term.at in ("leaves", "turns") and term.weight for term in built.terms.values())


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
    config = checked("train", [f"rounds={n}", "rounds.trajectories=2"])
    assert config.rounds.n == n
    assert configuration.build(config.rounds).widths == (8, 2, *[1] * n)[:n]


def test_values_given_with_a_group_stay_in_force() -> None:
    config = checked("train", ["optimizer.lr=0.5", "optimizer=adamw", "rounds.responses=3", "rounds=5"])
    assert (config.optimizer.lr, config.rounds.responses, config.rounds.n) == (0.5, 3, 5)


@pytest.mark.parametrize("runs", ["outputs/*", "[outputs/*,multirun/*]"])
def test_a_report_takes_one_glob_or_several(runs: str) -> None:
    assert checked("report", [f"runs={runs}"]).runs in ("outputs/*", ["outputs/*", "multirun/*"])


def test_a_sweep_is_expanded_before_it_runs() -> None:
    overrides = quote_rounds(["rounds=1,3", "reward=outcome,immediate", "seed=0"])
    expanded = [compose("train", job) for job in jobs(overrides)]
    found = [(config.rounds.n, next(iter(config.reward.terms)), config.seed) for config in expanded]
    assert found == [(1, "outcome", 0), (1, "immediate", 0), (3, "outcome", 0), (3, "immediate", 0)]


BAD = {
    "reward=nonsense": "reward has no option 'nonsense'; valid: concise, efficiency, gdpo, immediate, outcome",
    "trian.steps=3": "did you mean train.steps",
    "+extra=1": "extra: there is no such setting",
    "+train.stepz=1": "train.stepz: there is no such setting; valid: steps",
    "train.problems=many": "train.problems='many': must be a whole number",
    "evaluation.keep_best=7": "evaluation.keep_best=7: must be true or false",
    "reward.normalise=never": "reward.normalise='never': must be one of after, before",
    "rounds.keep=middle": "rounds.keep='middle': must be one of head, tail",
    "rounds=0": "rounds.n=0 must be 1 or more",
    "optimizer.lr=0": "optimizer.lr=0 must be above 0",
    "rounds.top_p=0.9": "rounds.top_p=0.9 cuts the distribution of turns that learn",
    "rounds.responses=1": "a group of 1",
    "rounds.progress_tokens=512": "leaves no room for a completion",
    "reward.credit=luck": "reward.credit=luck: no such rule; valid: first, global_local, process, siblings",
    "algorithm.scale=batches": "algorithm.scale='batches': must be one of group, batch, none",
    "benchmark.task=chian_sum": "no task of reasoning-gym; valid: chain_sum",
    "model.name=embedded:huge": "no such embedded model; valid: tiny",
    "rounds.probes=-1": "rounds.probes=-1 must be 0 or more",
    "rounds/search=vote": "without probes nothing tells what a pruned one was worth",
    "checkpoint.every=0": "checkpoint.every=0 must be 1 or more",
    "evaluation.samples=0": "evaluation.samples=0 must be 1 or more",
}


@pytest.mark.parametrize("override", BAD)
def test_a_mistake_is_named(override: str) -> None:
    with pytest.raises(InputError) as caught:
        checked("train", [override])
    assert any(BAD[override] in problem for problem in caught.value.problems), caught.value.problems


TOGETHER = {
    ("reward=tree", "rounds.continuation=base"): "written by other weights than the policy's",
    ("reward=tree", "rounds.later_top_p=0.9"): "rounds.later_top_p=0.9 cuts the distribution of turns that learn",
    ("reward=tree", "rounds.later_temperature=0"): "makes all continuations equal",
    ("reward=process", "rounds.probes=0"): "rounds.probes=0 samples none",
    ("reward=efficiency", "rounds.ending=fixed"): "rewards ending early, but rounds.ending=fixed always takes 3 rounds",
    ("rounds/carry=tail", "rounds.ending=concludes"): "one message that ends where the model ends it",
    ("rounds/carry=tail", "rounds.carry.head=1.0"): "rounds.carry.head=1.0 must be in [0, 1)",
    ("rounds/carry=tail", "rounds.progress_tokens=512"): "leaves no room for a completion",
    ("rounds/search=value", "rounds.probes=0"): "rounds.probes=0 samples none",
    ("reward.credit=process",): "rounds.probes=0 samples none",
    ("rounds/search=vote", "rounds.search.candidates=1"): "leaves nothing to choose from",
    ("rounds/search=vote", "rounds.search.keep=9"): "rounds.search.keep=9 must be from 1",
    ("reward=shared", "reward.credit.weighting=row"): "must be one of level, turn",
    ("reward=shared", "+reward.credit.wait=1"): "reward.credit.wait: there is no such setting",
}
"""Settings that are fine alone, and what is said of them together."""


@pytest.mark.parametrize("overrides", TOGETHER, ids=" ".join)
def test_what_makes_no_sense_together_is_refused(overrides: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        checked("train", overrides)
    assert any(TOGETHER[overrides] in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("overrides", "widths", "probes"),
    [
        (["reward=shared"], (8, 1, 1), 0),
        (["reward=process"], (8, 1, 1), 4),
        (["reward=tree"], (8, 4, 1), 0),
        (["reward=shared", "reward.credit=first", "rounds.trajectories=2"], (8, 2, 1), 0),
    ],
)
def test_a_reward_brings_the_tree_that_its_credit_needs(
    overrides: list[str], widths: tuple[int, ...], probes: int
) -> None:
    rounds = configuration.build(checked("train", overrides).rounds)
    assert (rounds.widths, rounds.probes) == (widths, probes)


def test_all_mistakes_are_reported_together_and_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import src.models.loading

    def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(src.models.loading, "load_policy", forbidden)
    monkeypatch.setattr(src.models.loading, "_from_pretrained", forbidden)
    together = [override for override in BAD if override != "reward.credit=luck"]
    with pytest.raises(InputError) as caught:
        checked("train", together)
    missing = [BAD[one] for one in together if not any(BAD[one] in problem for problem in caught.value.problems)]
    assert missing == []


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["evaluation.temperature=0"], "use evaluation.samples=1"),
        (["evaluation.keep_best=true", "evaluation.every=0"], "never looks"),
        (["rounds.temperature=0"], "all responses of a group equal"),
        (["rounds.branching=[8,4]"], "children of each of the 3 rounds"),
        (["algorithm.aggregation=dr_grpo", "algorithm.max_tokens=0"], "algorithm.max_tokens"),
        (["benchmark.train_size=4"], "train.problems"),
        (["algorithm=dapo", "benchmark.train_size=16"], "algorithm.max_resamples=3 takes further problems"),
        (["algorithm=reinforce++", "algorithm.max_resamples=1"], "algorithm.max_resamples=1 replaces groups"),
        (["algorithm=cispo", "algorithm.dual_clip=3"], "algorithm.dual_clip=3 bounds a clipped loss"),
        (["model=hub"], "model.name"),
        (["benchmark.verify_seconds=0"], "benchmark.verify_seconds=0 must be above 0"),
        (["benchmark.threshold=2"], r"benchmark.threshold=2 must be in \(0, 1\]"),
        (["+benchmark.tests.train={}"], "a test split cannot be named train"),
        (["~reward.terms.outcome", "~reward.terms.format"], "reward.terms is empty"),
        (["reward=overlong", "reward.terms.overlong.buffer=0"], "reward.terms.overlong.buffer=0 must be a share"),
        (["reward=unrepetitive", "reward.terms.repetition.size=0"], "reward.terms.repetition.size=0 must be 1 token"),
        (["model.lora.targets=[]"], "model.lora.targets is empty"),
        (["model.lora=null", "model.dtype=bfloat16"], "use model.dtype=float32"),
        (["model.adapter=nowhere"], "model.adapter=nowhere: holds no LoRA adapter"),
        (["engine.max_batch_tokens=0"], "engine.max_batch_tokens=0 must be 1 or more"),
        (["benchmark=math500"], "benchmark=math500 has nothing to train on"),
        (["benchmark=gsm8k", "benchmark.source=nowhere"], "benchmark.train: there is no nowhere/gsm8k/train.jsonl or"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(overrides: list[str], text: str) -> None:
    with pytest.raises(InputError, match=text):
        checked("train", overrides)


def test_a_carry_rule_of_ones_own_lives_outside_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(configuration.ROOT) / "README.md").read_text()
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    yaml = text.split("`conf/rounds/carry/ends.yaml`", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    (tmp_path / "rounds" / "carry").mkdir(parents=True)
    (tmp_path / "my_ends.py").write_text(code)
    (tmp_path / "rounds" / "carry" / "ends.yaml").write_text(yaml.replace("src.rounds.carry.ends", "my_ends"))
    monkeypatch.syspath_prepend(str(tmp_path))
    config = checked("train", [f"hydra.searchpath=[file://{tmp_path}]", "rounds/carry=ends"])
    rounds = configuration.build(config.rounds)
    lineage = [Turn((0,) * n, (), Sampling(9), text=f"<answer>p{n}</answer>") for n in (1, 2, 3)]
    assert [rounds.carry.carry(lineage[:n], rounds.prompts) for n in (1, 2, 3)] == ["p1", "p1\np2", "p1\np3"]


NEEDED = {
    "solve": ["question=?"],
    "export": ["run=?", "out=?"],
    "warmup": ["model=tiny"],  # their default's weights are a package that may not be installed
    "speed": ["model=tiny"],
}


@pytest.mark.parametrize("name", ["train", "evaluate", "solve", "pretrain", "warmup", "export", "report", "speed"])
def test_a_groups_choice_goes_over_the_file_that_names_it(name: str) -> None:
    assert OmegaConf.load(CONF / f"{name}.yaml").defaults[0] == "_self_"
    config = checked(name, NEEDED.get(name, []))
    own = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=False)
    found = OmegaConf.to_container(config, resolve=False)
    given = {key: value for key, value in own.items() if key not in ("defaults", "hydra") and value != "???"}
    assert {key: found[key] for key in given} == given


def test_a_debug_choice_changes_what_it_names_only() -> None:
    plain, small = compose("train"), compose("train", ["debug=smoke"])
    assert (plain.train.steps, small.train.steps) == (150, 2)
    assert small.train.max_grad_norm == plain.train.max_grad_norm
    assert small.optimizer == plain.optimizer


def test_the_mistakes_of_one_command_come_in_one_error() -> None:
    overrides = [
        "reward=outcom",
        "optimizer.lrr=1",
        "train.steps=ten",
        "rounds=0",
        "optimizer.lr=-1",
        "rounds.top_p=0.5",
    ]
    overrides += ["rounds.responses=1", "rounds.progress_tokens=600"]
    with pytest.raises(InputError) as caught:
        checked("train", overrides)
    text = str(caught.value)
    expected = ["reward has no option 'outcom'", "did you mean optimizer.lr", "train.steps='ten'", "rounds.n=0"]
    expected += ["optimizer.lr=-1", "rounds.top_p=0.5", "a group of 1", "algorithm.scale=group", "no room"]
    assert [words for words in expected if words not in text] == []
    assert len(set(caught.value.problems)) == len(caught.value.problems)


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
        (["reward.credit=5"], "reward.credit"),
        (["reward.credit=null"], "reward.credit"),
        (["reward.credit=os.path"], "reward.credit"),
        (["rounds.temperature=nan"], "rounds.temperature"),
        (["optimizer.lr=inf"], "optimizer.lr"),
        (["seed=abc"], "seed"),
        (["~reward"], "reward"),
        (["~train"], "train"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_run_is_refused_by_name(overrides: list[str], named: str) -> None:
    with pytest.raises(InputError) as caught:
        checked("train", overrides)
    assert any(named in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("name", "override"),
    [("solve", "temperature=hot"), ("solve", "seed=abc"), ("report", "steps=few"), ("pretrain", "training.steps=many")],
)
def test_the_other_entry_points_check_types_too(name: str, override: str) -> None:
    with pytest.raises(InputError, match=override.partition("=")[0]):
        checked(name, [override, *(["question=?"] if name == "solve" else [])])
