"""The learner's gradient equals that of a plain loop over tokens and does not depend on micro-batches or padding."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from src.algorithms.cispo import CISPO
from src.algorithms.grpo import GRPO
from src.algorithms.gspo import GSPO
from src.config import compose, options
from src.models.packing import micro_batches
from src.training.learner import Learner
from src.types import NumberError
from tests.helpers.tiny_models import plain_logprobs, random_rows, save_tiny, tiny_policy

LENGTHS = [(3, 9), (20, 1), (1, 14), (7, 7), (30, 4), (2, 2), (11, 12), (5, 20)]
ALL = 10**6
"""A token budget that all rows fit into."""


def algorithms() -> dict[str, GRPO]:
    """All options of the group, and some settings that no option has."""
    named = {name: compose("train", [f"algorithm={name}"]).settings.algorithm for name in options("algorithm")}
    return named | {
        "bnpo in threes": GRPO(aggregation="bnpo", loss_batch=3),
        "kl": GRPO(aggregation="dapo", kl_beta=0.3, dual_clip=3.0),
        "unbiased kl": GRPO(kl_beta=0.3, kl="k1", kl_unbiased=True),
        "whitened k2 in the reward": GRPO(kl_beta=0.3, kl="k2", kl_in="reward", whiten=True),
        "sequences of wide clipping": GSPO(clip_low=0.1, clip_high=0.1, correction="sequence", correction_mode="mask"),
        "trajectories": GRPO(aggregation="trajectory", mask_truncated=True),
        "entropy": CISPO(aggregation="trajectory", entropy_bonus=0.2, correction="token", correction_cap=1.5),
        "masked": GRPO(aggregation="grpo", mask_truncated=True, kl_beta=0.1),
        "masked tokens": GRPO(aggregation="dapo", mask_truncated=True, entropy_bonus=0.1),
    }


ALGORITHMS = algorithms()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def policy(folder):
    return tiny_policy(folder, "float64")


def learner(policy, algorithm, tokens=ALL, lr=0.0, max_grad_norm=1e9):
    optimizer = torch.optim.SGD(policy.parameters(), lr=lr)
    return Learner(policy, algorithm, optimizer, LambdaLR(optimizer, lambda step: 1.0), tokens, max_grad_norm)


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def gradient(policy, algorithm, rows, tokens=ALL, right=()):
    policy.model.zero_grad(set_to_none=True)
    subject = learner(policy, algorithm, tokens)
    subject.backward(subject.prepare(rows, right))
    return flat(parameter.grad for parameter in policy.parameters())


def assert_same(result, expected):
    assert float(expected.abs().max()) > 1e-3
    assert float((result - expected).abs().max()) < 1e-10


def tree_rows(seed, advantages=None):
    """Rows of three trajectories over several rounds: two rows truncated, sampler log-probs inexact."""
    rng = random.Random(seed)
    paths = [(0,), (1,), (2,), (0, 0), (1, 0), (0, 0, 0), (2, 0), (1, 0, 0)]
    return [
        replace(
            row,
            path=path,
            truncated=index in (3, 6),
            logprobs=tuple(rng.uniform(-5, -3) for _ in row.completion),
        )
        for index, (row, path) in enumerate(zip(random_rows(seed, LENGTHS, advantages), paths, strict=True))
    ]


def hand_share(algorithm, rows, index):
    """Weight of each token of a row in the loss, from plain counts over rows."""
    row, weight = rows[index], sum(other.weight for other in rows)
    size = (algorithm.loss_batch or len(rows)) if algorithm.aggregation == "bnpo" else len(rows)
    batch = rows[index - index % size : index - index % size + size]
    tokens = sum(other.weight * len(other.completion) for other in batch if has_loss(algorithm, other))
    match algorithm.aggregation:
        case "grpo":
            return row.weight / weight / len(row.completion)
        case "dr_grpo":
            return row.weight / weight / algorithm.max_tokens
        case "trajectory":
            lines = {other.path[0]: [one for one in rows if one.path[0] == other.path[0]] for other in rows}
            means = {name: sum(one.weight for one in line) / len(line) for name, line in lines.items()}
            line = [one for one in lines[row.path[0]] if has_loss(algorithm, one)]
            inside = sum(one.weight * len(one.completion) for one in line)
            return row.weight / inside * means[row.path[0]] / sum(means.values())
        case _:
            return row.weight / tokens / -(-len(rows) // size)


def has_loss(algorithm, row):
    return not (row.truncated and algorithm.mask_truncated)


def hand_kl(algorithm, new, anchor):
    u = anchor - new
    return {"k1": -u, "k2": u * u / 2, "k3": u.exp() - u - 1}[algorithm.kl]


def hand_advantages(algorithm, rows, currents, anchors):
    """Advantage of every token, in plain Python."""
    result = []
    for row, current, anchor in zip(rows, currents, anchors, strict=True):
        kl = [float(hand_kl(algorithm, new, base)) for new, base in zip(current.detach(), anchor, strict=True)]
        beta = algorithm.kl_beta if algorithm.kl_in == "reward" else 0.0
        result.append([row.advantage - beta * sum(kl[t:]) for t in range(len(kl))])
    if algorithm.whiten:
        counted = [
            (row.weight, a) for row, line in zip(rows, result, strict=True) if has_loss(algorithm, row) for a in line
        ]
        total = sum(weight for weight, _ in counted)
        mean = sum(weight * a for weight, a in counted) / total
        deviation = (sum(weight * (a - mean) ** 2 for weight, a in counted) / total) ** 0.5
        result = [[(a - mean) / (deviation + algorithm.epsilon) for a in line] for line in result]
    return result


def hand_surrogate(algorithm, ratio, new, advantage):
    """Policy loss of one token from the algorithm's importance ratio."""
    low, high = 1 - algorithm.clip_low, 1 + algorithm.clip_high
    clipped = ratio if low <= ratio.item() <= high else ratio.detach().clamp(low, high)
    if isinstance(algorithm, CISPO):
        return -clipped.detach() * advantage * new
    loss = max(-ratio * advantage, -clipped * advantage, key=torch.Tensor.item)
    bound = torch.tensor(-(algorithm.dual_clip or 0.0) * advantage, dtype=torch.float64)
    return min(loss, bound, key=torch.Tensor.item) if algorithm.dual_clip and advantage < 0 else loss


def hand_weight(algorithm, old, sampled):
    weight = (old - sampled).sum().exp().item()
    inside = algorithm.correction_floor <= weight <= algorithm.correction_cap
    if algorithm.correction_mode == "mask":
        return weight if inside else 0.0
    return min(max(weight, algorithm.correction_floor), algorithm.correction_cap)


def hand_loss(policy, algorithm, rows, first=None):
    """Loss of the batch, computed row by row and token by token without padding; also returns each row's log-probs.

    ``first`` holds the log-probs before the first iteration, if this is a later one.
    """
    total, currents, entropies, anchors = 0.0, [], [], []
    for row in rows:
        ids = torch.tensor([row.prompt + row.completion])
        logits = policy.model(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 : -1]
        distribution = (logits / row.temperature).log_softmax(-1)
        currents.append(distribution.gather(-1, torch.tensor(row.completion)[:, None])[:, 0])
        entropies.append(-(distribution.exp() * distribution).sum(-1))
        with torch.no_grad():
            anchors.append(plain_logprobs(policy, row.prompt, row.completion, row.temperature, base=True))
    olds = [current.detach() for current in currents] if first is None else first
    advantages = hand_advantages(algorithm, rows, olds, anchors)
    for index, row in enumerate(rows):
        if not has_loss(algorithm, row):
            continue
        share = hand_share(algorithm, rows, index)
        sampled = torch.tensor(row.logprobs, dtype=torch.float64)
        for t, (new, old) in enumerate(zip(currents[index], olds[index], strict=True)):
            whole = slice(None) if algorithm.correction == "sequence" else slice(t, t + 1)
            ratio = (new - old).exp()
            taken = (currents[index] - olds[index]).mean().exp() if isinstance(algorithm, GSPO) else ratio
            loss = hand_surrogate(algorithm, taken, new, advantages[index][t])
            if algorithm.correction != "none":
                loss = loss * hand_weight(algorithm, olds[index][whole], sampled[whole])
            if algorithm.kl_beta and algorithm.kl_in == "loss":
                kl = hand_kl(algorithm, new, anchors[index][t])
                loss = loss + algorithm.kl_beta * (kl * ratio if algorithm.kl_unbiased else kl)
            total = total + share * (loss - algorithm.entropy_bonus * entropies[index][t])
    return total, [current.detach() for current in currents]


def hand_gradient(policy, algorithm, rows, old=None):
    loss, logprobs = hand_loss(policy, algorithm, rows, old)
    return flat(torch.autograd.grad(loss, policy.parameters())), loss.item(), logprobs


@pytest.mark.parametrize("name", ALGORITHMS)
def test_gradient_is_that_of_a_loop_over_tokens(policy, name):
    rows = tree_rows(0)
    assert_same(gradient(policy, ALGORITHMS[name], rows), hand_gradient(policy, ALGORITHMS[name], rows)[0])


@pytest.mark.parametrize("tokens", [1, 60])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_micro_batches_do_not_change_the_gradient(policy, name, tokens):
    rows = tree_rows(1)
    split = micro_batches(rows, policy.attention, tokens)
    assert len(split) > 1
    assert (len(split) == len(rows)) == (tokens == 1)
    assert_same(gradient(policy, ALGORITHMS[name], rows, tokens), gradient(policy, ALGORITHMS[name], rows))


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "bnpo in threes"])  # depends on order
def test_the_order_of_rows_does_not_matter(policy, name):
    rows = tree_rows(2)
    shuffled = random.Random(0).sample(rows, len(rows))
    assert shuffled != rows
    assert_same(gradient(policy, ALGORITHMS[name], shuffled, 60), gradient(policy, ALGORITHMS[name], rows))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_tokens_of_an_environment_are_read_like_a_prompt(policy, name):
    """A completion that starts with tokens of the environment gives the gradient of a longer prompt."""
    rows = tree_rows(5)
    given = [
        replace(
            row,
            prompt=row.prompt[:-2],
            completion=row.prompt[-2:] + row.completion,
            logprobs=(0.0, 0.0, *row.logprobs),
            mask=(False, False, *[True] * len(row.completion)),
        )
        if len(row.prompt) > 2
        else row
        for row in rows
    ]
    assert any(row.mask for row in given)
    assert_same(gradient(policy, ALGORITHMS[name], given, 60), gradient(policy, ALGORITHMS[name], rows))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_padding_does_not_matter(policy, name):
    short = random_rows(3, [(2, 3), (3, 2)])
    long = [replace(row, weight=1e-300, path=(2,)) for row in random_rows(4, [(60, 50)])]
    assert_same(gradient(policy, ALGORITHMS[name], [*short, *long]), gradient(policy, ALGORITHMS[name], short))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_diagnostics_do_not_change_the_gradient(policy, name, monkeypatch):
    rows = tree_rows(15)
    expected = gradient(policy, ALGORITHMS[name], rows)
    honest = GRPO.token_loss
    monkeypatch.setattr(GRPO, "token_loss", lambda self, tokens: (honest(self, tokens)[0], {}))
    assert torch.equal(gradient(policy, ALGORITHMS[name], rows), expected)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_rows_without_advantage_are_skipped_but_counted(policy, name, monkeypatch):
    algorithm, rows = ALGORITHMS[name], tree_rows(5, [0.0, 1.0, 0.0, -2.0, 0.5, 0.0, 0.0, -0.3])
    seen = []
    forward = policy.completion_logprobs

    def counted_forward(packs, **options):
        seen.extend(row for pack in packs for row in pack)
        return forward(packs, **options)

    monkeypatch.setattr(policy, "completion_logprobs", counted_forward)
    result = gradient(policy, algorithm, rows)
    counted = [row for row in rows if has_loss(algorithm, row)]
    others = algorithm.kl_beta or algorithm.entropy_bonus or algorithm.whiten
    passes = len(counted) if others else sum(row.advantage != 0 for row in counted)
    if algorithm.kl_beta:  # reference pass; for a KL in the reward also a pass before the first iteration
        passes += len(counted) * (2 if algorithm.kl_in == "reward" else 1)
    assert len(seen) == passes
    expected, _, _ = hand_gradient(policy, algorithm, rows)
    assert_same(result, expected)
    if name in ("grpo", "dapo", "dr-grpo", "cispo", "trajectories"):
        alone = gradient(policy, algorithm, [row for row in rows if row.advantage])
        assert float((alone - expected).abs().max()) > 1e-3  # dropping rows from the denominators changes the gradient


@pytest.mark.parametrize(("tolerance", "off", "taken"), [(0.0, 0.0, False), (0.1, 0.05, True), (0.1, 0.2, False)])
def test_the_samplers_logprobs_are_used_if_they_agree(policy, monkeypatch, tolerance, off, taken):
    """They replace the policy's from the second micro-batch on, which saves a pass; the KL then has their error."""
    algorithm = GRPO(kl_beta=0.3, kl="k1", kl_in="reward")
    rows = random_rows(5, LENGTHS, [1.0] * len(LENGTHS))
    exact = [
        plain_logprobs(policy, row.prompt, row.completion, row.temperature).detach().sub(off).tolist() for row in rows
    ]
    rows = [replace(row, logprobs=tuple(values)) for row, values in zip(rows, exact, strict=True)]
    passes, forward = [], policy.completion_logprobs

    def counted(packs, base=False, **options):
        passes.append(base)
        return forward(packs, base=base, **options)

    oracle = learner(policy, algorithm, tokens=60).prepare(rows)
    monkeypatch.setattr(policy, "completion_logprobs", counted)
    own = learner(policy, algorithm, tokens=60)
    own.sampler_tolerance = tolerance
    batch = own.prepare(rows)
    assert passes.count(True) > 2
    assert passes.count(False) == (1 if taken else passes.count(True))
    apart = [float((a - b).abs().max()) for a, b in zip(batch.advantages, oracle.advantages, strict=True)]
    if taken:
        assert max(apart) == pytest.approx(0.3 * off * max(len(row.completion) for row in rows), rel=0.35)
    else:
        assert max(apart) == 0


def test_a_batch_without_advantages_changes_no_weights(policy):
    rows = random_rows(6, LENGTHS, [0.0] * len(LENGTHS))
    before = flat(policy.parameters())
    metrics = learner(policy, GRPO(), lr=1.0).update(rows)
    assert torch.equal(flat(policy.parameters()), before)
    assert (metrics["loss"], metrics["grad_norm"]) == (0.0, 0.0)


def test_a_row_without_tokens_does_not_change_the_gradient(policy):
    rows = random_rows(7, LENGTHS)
    empty = replace(rows[0], completion=(), logprobs=())
    result = gradient(policy, GRPO(aggregation="dapo"), [*rows, empty])
    assert_same(result, gradient(policy, GRPO(aggregation="dapo"), rows))


@pytest.mark.parametrize("tokens", [ALL, 40])
@pytest.mark.parametrize("aggregation", ["dapo", "grpo"])
def test_imitation_adds_the_mean_negative_log_likelihood_of_right_answers(policy, aggregation, tokens):
    """Of all tokens of right rows (dapo), or of the rows' means (grpo). A right row needs no advantage; with one, the
    term has the gradient of a larger advantage."""
    rows = tree_rows(3, [0.5, 0.0, -1.0, 0.0, 2.0, 0.0, 0.0, 1.0])
    right = [True, True, False, False, True, False, False, False]
    algorithm = CISPO(aggregation=aggregation, imitation=0.1)
    counts = [1 if aggregation == "dapo" else len(row.completion) for row in rows]
    sizes = [row.weight * len(row.completion) / count for row, count in zip(rows, counts, strict=True)]
    chosen = sum(size for size, one in zip(sizes, right, strict=True) if one)
    loss = 0.0
    for row, count, one in zip(rows, counts, right, strict=True):
        if one:
            logprobs = plain_logprobs(policy, row.prompt, row.completion, row.temperature)
            loss = loss - 0.1 * row.weight / count / chosen * logprobs.sum()
    expected = flat(torch.autograd.grad(loss, policy.parameters()))
    alone = [replace(row, advantage=0.0) for row in rows]
    assert_same(gradient(policy, algorithm, alone, tokens, right), expected)
    gain = 0.1 * sum(sizes) / chosen
    gained = [replace(row, advantage=row.advantage + gain * one) for row, one in zip(rows, right, strict=True)]
    expected = gradient(policy, CISPO(aggregation=aggregation), gained)
    assert_same(gradient(policy, algorithm, rows, tokens, right), expected)


def test_imitation_without_right_answers_changes_nothing_and_needs_to_know(policy):
    rows = tree_rows(3)
    none = gradient(policy, CISPO(imitation=0.1), rows, right=[False] * len(rows))
    assert torch.equal(none, gradient(policy, CISPO(), rows))
    with pytest.raises(ValueError, match=r"algorithm\.imitation=0\.1 needs to know which of the rows are right"):
        gradient(policy, CISPO(imitation=0.1), rows)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_later_iterations_keep_the_log_probs_of_the_first(policy, folder, name):
    algorithm, lr = ALGORITHMS[name].replace(iterations=2), 0.3
    rows = tree_rows(8)
    twin = tiny_policy(folder, "float64")

    def step(values):
        with torch.no_grad():
            start = 0
            for parameter in twin.parameters():
                parameter -= lr * values[start : start + parameter.numel()].view_as(parameter)
                start += parameter.numel()

    first, loss1, old = hand_gradient(twin, algorithm, rows)
    step(first)
    second, loss2, new = hand_gradient(twin, algorithm, rows, old)
    on_policy, _, _ = hand_gradient(twin, algorithm, rows)
    assert max(float((a - b).abs().max()) for a, b in zip(new, old, strict=True)) > 0.05  # the ratio differs from 1
    assert float((second - on_policy).abs().max()) > 1e-3  # and changes the gradient
    step(second)
    metrics = learner(policy, algorithm, tokens=60, lr=lr).update(rows)
    assert_same(flat(policy.parameters()), flat(twin.parameters()))
    assert metrics["loss"] == pytest.approx((loss1 + loss2) / 2, rel=1e-9)
    norms = float(first.norm()), float(second.norm())
    assert metrics["grad_norm"] == pytest.approx(sum(norms) / 2, rel=1e-9)


def test_the_reference_is_the_adapter_switched_off(policy):
    rows = [replace(row, advantage=0.0) for row in random_rows(9, LENGTHS)]
    algorithm = GRPO(aggregation="dapo", kl_beta=1.0)
    metrics = learner(policy, algorithm, tokens=60).update(rows)
    k3 = []
    with torch.no_grad():
        for row in rows:
            u = plain_logprobs(policy, row.prompt, row.completion, row.temperature, base=True)
            u = u - plain_logprobs(policy, row.prompt, row.completion, row.temperature)
            k3 += (u.exp() - u - 1).tolist()
    assert metrics["kl"] == pytest.approx(sum(k3) / len(k3), rel=1e-9)
    assert metrics["kl"] > 0.01
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    untrained = learner(policy, algorithm).update(rows)
    assert untrained["kl"] == pytest.approx(0.0, abs=1e-12)  # B = 0: the adapter has no effect


def test_diagnostics_are_means_over_the_tokens_that_were_trained(policy):
    rows = random_rows(10, LENGTHS)
    metrics = learner(policy, GRPO(), tokens=60).update(rows)
    mismatch, entropy = [], []
    with torch.no_grad():
        for row in rows:
            current = plain_logprobs(policy, row.prompt, row.completion, row.temperature)
            mismatch += (current - torch.tensor(row.logprobs)).abs().tolist()
            logits = policy.model(input_ids=torch.tensor([row.prompt + row.completion])).logits[0]
            scaled = (logits[len(row.prompt) - 1 : -1] / row.temperature).log_softmax(-1)
            entropy += (-(scaled.exp() * scaled).sum(-1)).tolist()
    assert metrics["sampler_mismatch"] == pytest.approx(sum(mismatch) / len(mismatch), rel=1e-9)
    assert metrics["entropy"] == pytest.approx(sum(entropy) / len(entropy), rel=1e-9)
    assert metrics["clip_ratio"] == 0.0
    assert metrics["kl"] == 0.0


def test_the_gradient_is_clipped_and_its_norm_before_clipping_is_reported(policy):
    rows = random_rows(11, LENGTHS)
    expected = gradient(policy, GRPO(), rows)
    before = flat(policy.parameters())
    limit = float(expected.norm()) / 4
    metrics = learner(policy, GRPO(), lr=1.0, max_grad_norm=limit).update(rows)
    assert metrics["grad_norm"] == pytest.approx(4 * limit, rel=1e-9)
    moved = before - flat(policy.parameters())
    torch.testing.assert_close(moved, expected / 4, rtol=1e-5, atol=1e-9)


def test_the_reported_learning_rate_is_that_of_the_last_step(policy):
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.5)
    schedule = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    subject = Learner(policy, GRPO(iterations=2), optimizer, schedule, ALL, 1e-3)
    rates = [subject.update(random_rows(12, LENGTHS))["lr"] for _ in range(2)]
    assert rates == pytest.approx([0.5 / 2, 0.5 / 4])


class Poisoned(GRPO):
    """A loss with an infinity in it, or with a gradient that is NaN where the loss is 0."""

    where: str

    def surrogate(self, tokens):
        loss, clipped = super().surrogate(tokens)
        if self.where == "loss":
            return loss / 0, clipped
        return loss + 0 * (tokens.logprobs - tokens.logprobs.detach()).abs().sqrt(), clipped


FAULTS = [
    ("advantage", r"^the advantage is nan$", (5, (2,))),
    ("sampled", r"^the sampler's log-prob of a token is not finite$", (5, (2,))),
    ("loss", r"^the loss of a token is not finite$", None),
    ("gradient", r"^the gradient is not finite \(that of .*lora_.*\); lower optimizer\.lr$", (None, ())),
]


def faulty(policy, fault, **settings):
    """A learner, and rows on which it meets a number that is not finite."""
    rows = random_rows(13, LENGTHS)
    if fault == "advantage":
        rows[2] = replace(rows[2], advantage=float("nan"), tree=5, path=(2,))
    if fault == "sampled":
        rows[2] = replace(rows[2], logprobs=(float("nan"),) * len(rows[2].logprobs), tree=5, path=(2,))
    correction = {"correction": "token"} if fault == "sampled" else {}
    algorithm = Poisoned(where=fault) if fault in ("loss", "gradient") else GRPO(**correction)
    return replace(learner(policy, algorithm, lr=1.0), **settings), rows


@pytest.mark.parametrize(("fault", "message", "turn"), FAULTS)
def test_a_number_that_is_not_finite_is_named_before_the_optimizer_step(policy, fault, message, turn):
    subject, rows = faulty(policy, fault)
    before = flat(policy.parameters())
    with pytest.raises(NumberError, match=message) as error:
        subject.update(rows)
    assert turn is None or (error.value.tree, error.value.path) == turn
    assert not error.value.fatal
    assert torch.equal(flat(policy.parameters()), before)


@pytest.mark.parametrize(("fault", "message", "turn"), FAULTS)
def test_such_an_update_can_be_skipped_and_is_counted(policy, fault, message, turn, caplog):
    subject, rows = faulty(policy, fault, on_nonfinite="skip")
    before = flat(policy.parameters())
    metrics = subject.update(rows)
    assert metrics["nonfinite"] == 1
    assert all(math.isfinite(value) for value in metrics.values())
    assert torch.equal(flat(policy.parameters()), before)
    assert "an update was skipped" in caplog.text
    subject.algorithm = GRPO()
    assert subject.update(random_rows(14, LENGTHS))["nonfinite"] == 0
    assert not torch.equal(flat(policy.parameters()), before)


@pytest.mark.parametrize("choice", ["stop", "skip"])
def test_weights_that_are_not_finite_always_stop_the_run(policy, choice):
    subject = replace(learner(policy, GRPO(), lr=1.0), on_nonfinite=choice)
    step = subject.optimizer.step
    weight = next(iter(policy.parameters()))

    def overflow():
        step()
        weight.data.view(-1)[0] = float("inf")

    subject.optimizer.step = overflow
    with pytest.raises(NumberError, match="the update made weights that are not finite") as error:
        subject.update(random_rows(13, LENGTHS))
    assert error.value.fatal


def test_a_second_update_starts_from_a_zero_gradient(policy, folder):
    rows = random_rows(14, LENGTHS)
    subject = learner(policy, GRPO())
    first, second = subject.update(rows), subject.update(rows)
    assert second == pytest.approx(first)
