"""Warm-up: solutions split into rounds, prompts as in rollouts, loss on completions only, adapter to start from."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from src.config import ROOT, compose
from src.models.loading import load_codec, load_policy
from src.models.settings import ModelSettings
from src.optimizers.adamw import AdamW
from src.sft import solutions
from src.sft.imitation import held_out, lessons, losses, mean_loss, stream
from src.sft.loop import supervise
from src.types import InputError, Problem, Status
from src.verifiers.tags import progress, stated_answer, well_formed
from src.warmup import warm_up
from tests.helpers.tiny_models import plain_logprobs, random_rows, save_tiny, tiny_policy

SOLUTION = (
    "Tom has 3*4 = <<3*4=12>>12 eggs.\n\nHe sells $5 worth, so 12 - 5 = $<<12-5=7>>7 are left.\n"
    "Twice that is 2 x 7 = <<2*7=14>>14.\n#### 14"
)
EGGS = Problem("eggs", "How many?", "14", {"solution": SOLUTION})
STEPS = ["Tom has 3*4 = 12 eggs.", "He sells $5 worth, so 12 - 5 = $7 are left.", "Twice that is 2 x 7 = 14."]


def a_sum(expression):
    return Problem("sum", f"{expression} =", str(eval(expression)), {"expression": expression})


# solutions


def test_steps_are_the_lines_without_calculator_marks_and_the_final_mark():
    assert solutions.steps(EGGS) == STEPS


def test_a_chain_sum_is_worked_out_term_by_term():
    assert solutions.steps(a_sum("4 - 9 + 13")) == ["4 - 9 = -5", "-5 + 13 = 8"]
    assert solutions.steps(a_sum("-4 - -9")) == ["-4 - -9 = 5"]


def test_solutions_come_with_the_data(tmp_path):
    """GSM8K's layout: the solution, then the gold after its mark."""
    rows = [
        {"question": f"{n} eggs, twice?", "answer": f"2*{n} = <<2*{n}={2 * n}>>{2 * n}\n#### {2 * n}"} for n in range(9)
    ]
    for file, chosen in (("train", rows[:6]), ("test", rows[6:])):
        (tmp_path / "gsm8k").mkdir(exist_ok=True)
        (tmp_path / "gsm8k" / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
    overrides = ["benchmark=gsm8k", f"benchmark.source={tmp_path}", "benchmark.validation_size=2", "train.problems=2"]
    splits = compose("train", overrides).settings.benchmark.load()
    for problem in (*splits.train, *splits.validation, *splits.tests["test"]):
        n = int(problem.question.partition(" ")[0])
        assert solutions.steps(problem) == [f"2*{n} = {2 * n}"]
        assert problem.answer == str(2 * n)


REAL = ROOT.parent / "shared" / "data" / "gsm8k" / "train.jsonl"


@pytest.mark.skipif(not REAL.is_file(), reason="needs GSM8K in ../shared/data")
def test_every_solution_of_gsm8k_is_steps_that_end_in_its_gold():
    counts = []
    for number, line in enumerate(REAL.read_text().splitlines()):
        solution, _, gold = json.loads(line)["answer"].partition("####")
        steps = solutions.steps(Problem(str(number), "?", gold.strip(), {"solution": solution}))
        assert not any("<<" in step or ">>" in step or "####" in step for step in steps)
        counts.append(len(steps))
    assert len(counts) == 7473
    assert 3 < sum(counts) / len(counts) < 4


@pytest.mark.parametrize("metadata", [{}, {"solution": ""}, {"solution": "#### 3"}, {"expression": "2 * (3 + 4)"}])
def test_a_problem_without_a_solution_is_named(metadata):
    with pytest.raises(InputError, match=r"problem 'p' has no worked solution.*benchmark=gsm8k"):
        solutions.steps(Problem("p", "?", "3", metadata))


def test_rounds_work_off_every_step_once_and_hand_on_all_so_far():
    rng = random.Random(0)
    counts = set()
    for _ in range(60):
        texts = solutions.rounds(EGGS, 5, rng)
        counts.add(len(texts))
        assert all(well_formed(text) for text in texts)
        shown = [text.partition("<reasoning>\n")[2].partition("\n</reasoning>")[0] for text in texts]
        assert "\n".join(shown) == "\n".join(STEPS)
        for index, text in enumerate(texts[:-1]):
            assert progress(text) == "\n".join(shown[: index + 1])
            assert stated_answer(text) is None
        assert progress(texts[-1]) == "\\boxed{14}"
    assert counts == {1, 2, 3}  # no more rounds than steps
    assert {len(solutions.rounds(EGGS, 2, rng)) for _ in range(30)} == {1, 2}


def test_a_round_of_a_sum_may_hand_on_only_what_is_left():
    problem = a_sum("4 - 9 + 13 - 2")
    assert solutions.rest(problem) == ["-5 + 13 - 2", "8 - 2"]
    rng, told = random.Random(0), set()
    for _ in range(40):
        *before, last = solutions.rounds(problem, 3, rng, "rest")
        told.update((text.count(" = "), progress(text)) for text in before[:1])
        assert progress(last) == "\\boxed{6}"
    assert told == {(1, "-5 + 13 - 2"), (2, "8 - 2")}
    with pytest.raises(InputError, match=r"'eggs' does not say what is left.*chain_sum"):
        solutions.rounds(EGGS, 3, rng, "rest")


# lessons


@pytest.fixture(scope="module")
def codec():
    return load_codec(ModelSettings(name="embedded:tiny", context=512, round_tokens=40))


def strategy(*overrides):
    return compose("train", ["model.round_tokens=300", *overrides]).settings.rounds


@pytest.mark.parametrize("carry", ["answer", "history"])
def test_lessons_are_asked_for_with_the_prompts_of_rollouts(codec, carry):
    chain = strategy("rounds=3", f"rounds/carry={carry}")
    problem = a_sum("4 - 9 + 3 + 2 - 8")
    for seed in range(8):
        rows = lessons(problem, chain, codec, 7, random.Random(seed))
        texts = solutions.rounds(problem, 3, random.Random(seed))
        assert [row.completion for row in rows] == [(*codec.encode(text), 7) for text in texts]
        told = [progress(text) for text in texts]
        for index, row in enumerate(rows):
            shown = told[index - 1] if carry == "answer" else "\n".join(told[:index])
            messages = chain.prompts.messages(problem.question, shown if index else None, index + 1, len(texts))
            assert row.prompt == codec.chat(messages)


def test_a_turn_over_its_budget_is_no_lesson(codec):
    problem = a_sum(" + ".join(["1"] * 12))
    full = lessons(problem, strategy("rounds=3"), codec, 7, random.Random(5))
    assert len(full) == 3
    limit = len(full[1].completion)
    short = lessons(problem, strategy("rounds=3", f"model.round_tokens={limit}"), codec, 7, random.Random(5))
    assert [row.completion for row in short] == [row.completion for row in full if len(row.completion) <= limit]
    assert full[1] in short


def test_an_epoch_shows_every_problem_once_in_an_order_of_its_own(codec):
    problems = [a_sum(f"{number} + 1") for number in range(20)]
    rows = list(itertools.islice(stream(problems, strategy("rounds=1"), codec, 7, 0), 60))
    epochs = [[row.prompt for row in rows[start : start + 20]] for start in (0, 20, 40)]
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
    assert len({tuple(epoch) for epoch in epochs}) == 3
    again = list(itertools.islice(stream(problems, strategy("rounds=1"), codec, 7, 0), 60))
    other = list(itertools.islice(stream(problems, strategy("rounds=1"), codec, 7, 1), 60))
    assert again == rows
    assert other != rows


def test_solutions_that_fit_nowhere_are_an_error_and_no_endless_search(codec):
    chain = strategy("rounds=1", "model.round_tokens=5")
    told = r"no worked solution fits into .*rounds\.first_tokens.*raise model\.round_tokens"
    with pytest.raises(InputError, match=f"^{told}"):
        next(stream([a_sum("1 + 2")], chain, codec, 7, 0))
    with pytest.raises(InputError, match=f"^of 1 validation problems, {told}"):
        held_out([a_sum("1 + 2")], chain, codec, 7, 0)


def test_a_rule_that_goes_on_writing_one_message_has_no_lessons(codec):
    chain, problem = strategy("rounds=3", "rounds/carry=tail"), a_sum("1 + 2 + 3 + 4")
    plain = {seed: lessons(problem, strategy("rounds=3"), codec, 7, random.Random(seed)) for seed in range(9)}
    several = next(seed for seed, rows in plain.items() if len(rows) > 1)  # one round needs no rule
    with pytest.raises(InputError, match=r"rounds\.carry continues one message.*use rounds/carry=answer"):
        lessons(problem, chain, codec, 7, random.Random(several))


# the loss


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


LENGTHS = [(3, 9), (20, 2), (1, 1), (8, 8), (5, 20)]
ROWS = [replace(row, temperature=1.0) for row in random_rows(0, LENGTHS)]


@pytest.mark.parametrize("budget", [1, 30, 10_000])
def test_the_loss_is_the_mean_over_completion_tokens_whatever_the_batches(folder, budget):
    policy, rows = tiny_policy(folder, "float64"), ROWS
    with torch.no_grad():
        parts = [-plain_logprobs(policy, row.prompt, row.completion, 1.0) for row in rows]
    expected = float(torch.cat(parts).mean())
    assert mean_loss(policy, rows, budget) == pytest.approx(expected, abs=1e-10)
    assert sum(1 for _ in losses(policy, rows, 1)) == len(rows)


@pytest.mark.parametrize("budget", [1, 10_000])
def test_a_step_follows_the_gradient_of_that_loss(folder, budget):
    policy, rows = tiny_policy(folder, "float64"), ROWS
    total = sum(-plain_logprobs(policy, row.prompt, row.completion, 1.0).sum() for row in rows)
    expected = torch.autograd.grad(total / sum(len(row.completion) for row in rows), policy.parameters())
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    (line,) = supervise([rows], lambda rows: losses(policy, rows, budget), optimizer, schedule, 1e9)
    assert line["loss"] == pytest.approx(float(total.detach()) / sum(completion for _, completion in LENGTHS))
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in expected))
    assert line["grad_norm"] == pytest.approx(norm)
    for parameter, start, gradient in zip(policy.parameters(), before, expected, strict=True):
        torch.testing.assert_close(parameter, start - 0.1 * gradient, rtol=0, atol=1e-9)


def test_a_step_is_no_longer_than_its_gradient_may_be(folder):
    policy, rows = tiny_policy(folder, "float64"), ROWS
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    (line,) = supervise([rows], lambda rows: losses(policy, rows, 1000), optimizer, schedule, 0.01)
    moved = sum(
        float(((now.detach() - start) ** 2).sum()) for now, start in zip(policy.parameters(), before, strict=True)
    )
    assert line["grad_norm"] > 0.02
    assert math.sqrt(moved) == pytest.approx(0.01, rel=1e-4)


def test_imitation_learns_what_it_is_shown(folder):
    policy, rows = tiny_policy(folder, adapt=False), ROWS
    optimizer, schedule = AdamW(lr=1e-2, warmup=0, schedule="constant").build(policy.parameters(), 60)
    lines = list(supervise([rows] * 60, lambda rows: losses(policy, rows, 1000), optimizer, schedule, 1.0))
    assert len(lines) == 60
    assert lines[-1]["loss"] < 0.3 * lines[0]["loss"]
    assert mean_loss(policy, rows, 1000) < lines[-1]["loss"] + 0.1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("imitation.steps=0", "imitation.steps=0 must be 1 or more"),
        ("imitation.max_grad_norm=-1", "imitation.max_grad_norm=-1 must be above 0"),
        ("imitation.turns=many", "imitation.turns='many': must be a whole number"),
    ],
)
def test_settings_that_would_teach_nothing_are_refused(override, message):
    with pytest.raises(InputError, match=message):
        compose("warmup", ["model=tiny", override])


# the command


SMALL = ["model=tiny", "model.round_tokens=120", "imitation.steps=4", "imitation.turns=4", "threads=1"]
SMALL += ["imitation.validate_every=2", "imitation.validation_problems=4", "optimizer.lr=1e-2"]
SMALL += ["benchmark.train_size=16", "benchmark.validation_size=4", "benchmark.test_size=4"]


def run(out, *overrides):
    config = compose("warmup", [*SMALL, *overrides])
    config.write(out)
    warm_up(config, out)
    return out


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    return run(tmp_path_factory.mktemp("warm") / "run")


def weights(out):
    return load_file(out / "checkpoints" / "step_4" / "adapter" / "adapter_model.safetensors")


def test_a_warm_up_writes_its_losses_and_lowers_them(warm):
    lines = [json.loads(line) for line in (warm / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert ["validation/loss" in line for line in lines] == [False, True, False, True]
    loss = json.loads((warm / "summary.json").read_text())["validation_loss"]
    assert loss["after"] == lines[-1]["validation/loss"] < loss["before"]


def test_the_seed_fixes_a_warm_up(warm, tmp_path):
    run(tmp_path / "other", "seed=1")
    run(tmp_path / "same")
    first, same, other = (weights(out) for out in (warm, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(same[name], value) for name, value in first.items())
    assert not all(torch.equal(other[name], value) for name, value in first.items())


def test_training_starts_where_the_warm_up_ended(warm):
    model = compose("train", [f"model.adapter={warm}"]).settings.model
    policy, fresh = load_policy(model, 0), load_policy(model.replace(adapter=None), 0)
    loss = json.loads((warm / "summary.json").read_text())["validation_loss"]
    settings = compose("warmup", SMALL).settings
    chain, benchmark = settings.rounds, settings.benchmark
    rng = random.Random("0/warmup/validation")
    end = policy.end_token
    rows = [row for one in benchmark.load().validation for row in lessons(one, chain, policy.codec, end, rng)]
    assert mean_loss(policy, rows, 8192) == pytest.approx(loss["after"], abs=1e-4)
    assert mean_loss(fresh, rows, 8192) == pytest.approx(loss["before"], abs=1e-4)


def test_lessons_look_finished_to_the_strategy(codec):
    """What the warm-up hands to ``extend`` is what an engine would: done, with its text."""
    seen = []

    class Watching:
        def __init__(self, inner):
            self.inner, self.n = inner, inner.n

        def independent(self, *arguments):
            return Watching(self.inner.independent(*arguments))

        def open(self, problem, codec):
            return self.inner.open(problem, codec)

        def extend(self, problem, lineage, codec):
            seen.append(lineage[-1])
            return self.inner.extend(problem, lineage, codec)

    lessons(a_sum("1 + 2 + 3 + 4"), Watching(strategy("rounds=3")), codec, 7, random.Random(5))
    assert [turn.round for turn in seen] == list(range(1, len(seen) + 1))
    assert all(turn.status == Status.DONE and turn.live and codec.encode(turn.text) for turn in seen)
    assert seen
