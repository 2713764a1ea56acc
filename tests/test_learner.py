from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from src.algorithms.grpo import GRPO
from src.learner import Learner, micro_batches
from tests.models_for_tests import plain_logprobs, random_rows, save_tiny, tiny_policy

LENGTHS = [(3, 9), (20, 1), (1, 14), (7, 7), (30, 4), (2, 2), (11, 12), (5, 20)]
ALL = 10**6
"""A token budget that everything fits in."""
GRPOS = {
    "grpo": GRPO(aggregation="grpo"),
    "dapo": GRPO(aggregation="dapo", clip_high=0.28),
    "dr_grpo": GRPO(aggregation="dr_grpo", scale="none", max_tokens=32),
    "bnpo": GRPO(aggregation="bnpo", loss_batch=3),
    "kl": GRPO(aggregation="dapo", kl_beta=0.3, dual_clip=3.0),
}


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


def gradient(policy, algorithm, rows, tokens=ALL):
    policy.model.zero_grad(set_to_none=True)
    learner(policy, algorithm, tokens).backward(rows)
    return flat(parameter.grad for parameter in policy.parameters())


def assert_same(result, expected):
    assert float(expected.abs().max()) > 1e-3
    assert float((result - expected).abs().max()) < 1e-10


def hand_loss(policy, algorithm, rows, old):
    """The loss of the batch, one row and one token at a time, without padding; also each row's log-probs."""
    size = algorithm.loss_batch or len(rows)
    total, logprobs = 0.0, []
    for index, row in enumerate(rows):
        batch = rows[index - index % size : index - index % size + size] if algorithm.aggregation == "bnpo" else rows
        match algorithm.aggregation:
            case "grpo":
                share = row.weight / sum(other.weight for other in rows) / len(row.completion)
            case "dr_grpo":
                share = row.weight / sum(other.weight for other in rows) / algorithm.max_tokens
            case _:
                share = row.weight / sum(other.weight * len(other.completion) for other in batch)
        if algorithm.aggregation == "bnpo":
            share /= -(-len(rows) // size)
        current = plain_logprobs(policy, row.prompt, row.completion, row.temperature)
        logprobs.append(current.detach())
        before = current.detach() if old is None else old[index]
        with torch.no_grad():
            base = plain_logprobs(policy, row.prompt, row.completion, row.temperature, base=True)
        for new, previous, anchor in zip(current, before, base, strict=True):
            ratio = (new - previous).exp()
            low, high = 1 - algorithm.clip_low, 1 + algorithm.clip_high
            clipped = ratio if low <= ratio.item() <= high else ratio.detach().clamp(low, high)
            loss = max(-ratio * row.advantage, -clipped * row.advantage, key=torch.Tensor.item)
            if algorithm.dual_clip and row.advantage < 0:
                loss = min(
                    loss, torch.tensor(-algorithm.dual_clip * row.advantage, dtype=torch.float64), key=torch.Tensor.item
                )
            if algorithm.kl_beta:
                loss = loss + algorithm.kl_beta * ((anchor - new).exp() - (anchor - new) - 1)
            total = total + share * loss
    return total, logprobs


def hand_gradient(policy, algorithm, rows, old=None):
    loss, logprobs = hand_loss(policy, algorithm, rows, old)
    return flat(torch.autograd.grad(loss, policy.parameters())), loss.item(), logprobs


@pytest.mark.parametrize("name", GRPOS)
def test_gradient_is_that_of_a_loop_over_tokens(policy, name):
    rows = random_rows(0, LENGTHS)
    assert_same(gradient(policy, GRPOS[name], rows), hand_gradient(policy, GRPOS[name], rows)[0])


@pytest.mark.parametrize("tokens", [1, 40, 60, 100, 200])
@pytest.mark.parametrize("name", GRPOS)
def test_micro_batches_do_not_change_the_gradient(policy, name, tokens):
    rows = random_rows(1, LENGTHS)
    split = micro_batches(rows, tokens)
    assert len(split) > 1
    assert (len(split) == len(rows)) == (tokens == 1)
    assert_same(gradient(policy, GRPOS[name], rows, tokens), gradient(policy, GRPOS[name], rows))


@pytest.mark.parametrize("name", [name for name in GRPOS if name != "bnpo"])  # its logical batches are runs of rows
def test_the_order_of_rows_does_not_matter(policy, name):
    rows = random_rows(2, LENGTHS)
    shuffled = random.Random(0).sample(rows, len(rows))
    assert shuffled != rows
    assert_same(gradient(policy, GRPOS[name], shuffled, 60), gradient(policy, GRPOS[name], rows))


def test_padding_does_not_matter(policy):
    short = random_rows(3, [(2, 3), (3, 2)])
    long = [replace(row, advantage=0.0, weight=1e-300) for row in random_rows(4, [(60, 50)])]
    kl = GRPO(aggregation="grpo", kl_beta=0.2)  # so that the long row is not skipped
    assert_same(gradient(policy, kl, [*short, *long]), gradient(policy, kl, short))


@pytest.mark.parametrize("name", GRPOS)
def test_rows_without_advantage_are_skipped_but_counted(policy, name, monkeypatch):
    rows = random_rows(5, LENGTHS, [0.0, 1.0, 0.0, -2.0, 0.5, 0.0, 0.0, -0.3])
    seen = []
    forward = policy.completion_logits
    monkeypatch.setattr(policy, "completion_logits", lambda batch, **kw: seen.extend(batch) or forward(batch, **kw))
    result = gradient(policy, GRPOS[name], rows)
    assert len(seen) == (16 if name == "kl" else 4)  # a KL term needs every row, twice
    expected, _, _ = hand_gradient(policy, GRPOS[name], rows)
    assert_same(result, expected)
    if name not in ("kl", "bnpo"):
        alone = gradient(policy, GRPOS[name], [row for row in rows if row.advantage])
        assert float((alone - expected).abs().max()) > 1e-3  # dropping them from the denominators would show


def test_only_rows_without_advantage_give_no_step(policy):
    rows = random_rows(6, LENGTHS, [0.0] * len(LENGTHS))
    before = flat(policy.parameters())
    metrics = learner(policy, GRPO(), lr=1.0).update(rows)
    assert torch.equal(flat(policy.parameters()), before)
    assert (metrics["loss"], metrics["grad_norm"]) == (0.0, 0.0)


def test_a_row_without_tokens_is_no_nan(policy):
    rows = random_rows(7, LENGTHS)
    empty = replace(rows[0], completion=(), logprobs=())
    result = gradient(policy, GRPO(aggregation="dapo"), [*rows, empty])
    assert_same(result, gradient(policy, GRPO(aggregation="dapo"), rows))


@pytest.mark.parametrize("name", GRPOS)
def test_later_iterations_keep_the_first_log_probs(policy, folder, name):
    algorithm, lr = replace(GRPOS[name], iterations=2), 0.3
    rows = random_rows(8, LENGTHS)
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
    assert max(float((a - b).abs().max()) for a, b in zip(new, old, strict=True)) > 0.05  # the ratio moved
    assert float((second - on_policy).abs().max()) > 1e-3  # and it shows in the gradient
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
    assert untrained["kl"] == pytest.approx(0.0, abs=1e-12)  # B = 0: the adapter does nothing


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


def test_the_gradient_norm_is_clipped_and_reported_before(policy):
    rows = random_rows(11, LENGTHS)
    expected = gradient(policy, GRPO(), rows)
    before = flat(policy.parameters())
    limit = float(expected.norm()) / 4
    metrics = learner(policy, GRPO(), lr=1.0, max_grad_norm=limit).update(rows)
    assert metrics["grad_norm"] == pytest.approx(4 * limit, rel=1e-9)
    moved = before - flat(policy.parameters())
    torch.testing.assert_close(moved, expected / 4, rtol=1e-5, atol=1e-9)


def test_the_rate_is_that_of_the_step_taken(policy):
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.5)
    schedule = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    subject = Learner(policy, replace(GRPO(), iterations=2), optimizer, schedule, ALL, 1e-3)
    rates = [subject.update(random_rows(12, LENGTHS))["lr"] for _ in range(2)]
    assert rates == pytest.approx([0.5 / 2, 0.5 / 4])


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step(policy):
    rows = random_rows(13, LENGTHS)
    rows[2] = replace(rows[2], advantage=float("nan"))
    before = flat(policy.parameters())
    with pytest.raises(FloatingPointError, match=r"optimizer\.lr"):
        learner(policy, GRPO(), lr=1.0).update(rows)
    assert torch.equal(flat(policy.parameters()), before)


def test_a_second_update_starts_from_a_clean_gradient(policy, folder):
    rows = random_rows(14, LENGTHS)
    subject = learner(policy, GRPO())
    first, second = subject.update(rows), subject.update(rows)
    assert second == pytest.approx(first)


# micro-batches


def padded(rows, group):
    return len(group) * (max(len(rows[i].prompt) for i in group) + max(len(rows[i].completion) for i in group))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [1, 17, 64, 100, 333, 5000])
def test_micro_batches_fit_the_budget_and_cover_every_row_once(seed, budget):
    rng = random.Random(seed)
    rows = random_rows(seed, [(rng.randint(1, 60), rng.randint(1, 60)) for _ in range(40)])
    groups = micro_batches(rows, budget)
    assert sorted(index for group in groups for index in group) == list(range(40))
    for group in groups:
        assert len(group) == 1 or padded(rows, group) <= budget


@pytest.mark.parametrize(
    ("budget", "sizes"), [(10, [1, 1, 1, 1]), (19, [1, 1, 1, 1]), (20, [2, 2]), (30, [3, 1]), (40, [4])]
)
def test_micro_batches_are_as_full_as_the_budget_allows(budget, sizes):
    assert [len(group) for group in micro_batches(random_rows(0, [(6, 4)] * 4), budget)] == sizes


def test_micro_batches_put_similar_lengths_together():
    rows = random_rows(0, [(50, 50), (1, 1), (50, 49), (1, 2)])
    assert micro_batches(rows, 200) == [[1, 3], [2, 0]]
