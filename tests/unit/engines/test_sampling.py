from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from src.engines.local.batch import uniforms
from src.engines.local.sampling import BLOCK, draw, invert, nucleus

LOGITS = [1.5, -0.3, 0.2, 2.1, -1.0, 0.9, 0.0, 1.1]
DRAWS = 40_000


def softmax(logits: list[float], temperature: float) -> np.ndarray:
    powers = np.exp(np.array(logits) / temperature)
    return powers / powers.sum()


def exact_nucleus(probabilities: np.ndarray, top_p: float) -> np.ndarray:
    """The top-p distribution by a plain loop: the smallest set of most likely tokens, renormalised."""
    kept, total = np.zeros_like(probabilities), 0.0
    for token in np.argsort(-probabilities):
        kept[token] = probabilities[token]
        total += probabilities[token]
        if total >= top_p:
            break
    return kept / kept.sum()


def drawn(logits: list[float], temperature: float, top_p: float, count: int = DRAWS, dtype=torch.float32):
    uniform = torch.from_numpy(uniforms(7, count))
    return draw(
        torch.tensor([logits], dtype=dtype).expand(count, -1),
        torch.full((count,), temperature),
        torch.full((count,), top_p),
        uniform,
    )


def assert_distribution(tokens: torch.Tensor, expected: np.ndarray) -> None:
    counts = np.bincount(tokens.numpy(), minlength=len(expected))
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    if possible.sum() > 1:
        assert chisquare(counts[possible], expected[possible] * counts.sum()).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 1.5, 4.0])
def test_token_frequencies_follow_the_softmax(temperature):
    tokens, *_ = drawn(LOGITS, temperature, 1.0)
    assert_distribution(tokens, softmax(LOGITS, temperature))


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
def test_token_frequencies_follow_the_nucleus(temperature, top_p):
    tokens, *_ = drawn(LOGITS, temperature, top_p)
    assert_distribution(tokens, exact_nucleus(softmax(LOGITS, temperature), top_p))


def test_the_chi_square_test_detects_a_slightly_wrong_temperature():
    tokens, *_ = drawn(LOGITS, 1.0, 1.0)
    with pytest.raises(AssertionError):
        assert_distribution(tokens, softmax(LOGITS, 1.05))


@pytest.mark.parametrize("top_p", [0.05, 0.4, 0.75, 0.9])
def test_nucleus_keeps_the_smallest_set_that_reaches_top_p(top_p):
    rows = torch.randn(20, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(-1)
    kept = nucleus(rows, torch.full((20,), top_p))
    for row, result in zip(rows, kept, strict=True):
        expected = exact_nucleus(row.numpy(), top_p)
        assert (result == 0).tolist() == (expected == 0).tolist()
        assert result[result > 0].tolist() == row[result > 0].tolist()


def test_among_equally_likely_tokens_the_nucleus_keeps_the_lowest_ids():
    rows = torch.tensor([[0.1, 0.2, 0.2, 0.1, 0.2, 0.2], [0.25, 0.25, 0.0, 0.25, 0.25, 0.0]])
    assert nucleus(rows, torch.tensor([0.5, 0.5])).gt(0).tolist() == [
        [False, True, True, False, True, False],
        [True, True, False, False, False, False],
    ]


def test_greedy_is_the_argmax_for_any_uniform_number():
    logits = torch.randn(50, 12, generator=torch.Generator().manual_seed(2))
    uniform = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    tokens, logprobs, _ = draw(logits, torch.zeros(50), torch.ones(50), uniform)
    assert tokens.tolist() == logits.argmax(-1).tolist()
    torch.testing.assert_close(logprobs, logits.log_softmax(-1).max(-1).values)


def test_greedy_and_sampled_rows_mix():
    logits = torch.tensor([LOGITS, LOGITS, LOGITS])
    tokens, logprobs, at_one = draw(
        logits, torch.tensor([0.0, 1.0, 0.5]), torch.ones(3), torch.tensor([0.0, 0.0, 0.999], dtype=torch.float64)
    )
    assert tokens.tolist() == [3, 0, 7]  # the likeliest, the first, the last
    expected = [np.log(softmax(LOGITS, 1.0)[3]), np.log(softmax(LOGITS, 1.0)[0]), np.log(softmax(LOGITS, 0.5)[7])]
    assert logprobs.tolist() == pytest.approx(expected, rel=1e-5)
    assert at_one.tolist() == pytest.approx([*expected[:2], np.log(softmax(LOGITS, 1.0)[7])], rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.25])
@pytest.mark.parametrize("top_p", [0.8, 1.0])
def test_logprobs_are_those_of_the_full_distribution(temperature, top_p):
    tokens, logprobs, at_one = drawn(LOGITS, temperature, top_p, count=500, dtype=torch.float64)
    assert len(set(tokens.tolist())) > 1
    for result, at in ((logprobs, temperature), (at_one, 1.0)):
        np.testing.assert_allclose(result.numpy(), np.log(softmax(LOGITS, at))[tokens.numpy()], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_does_not_depend_on_the_temperature_of_another_row(dtype):
    rows = torch.tensor([LOGITS, LOGITS], dtype=dtype)
    uniform = torch.full((2,), 0.6, dtype=torch.float64)
    alone = draw(rows[:1], torch.ones(1), torch.ones(1), uniform[:1])
    together = draw(rows, torch.tensor([1.0, 0.7]), torch.ones(2), uniform)
    assert [float(values[0]) for values in together] == [float(values[0]) for values in alone]


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.0999, 0), (0.1, 1), (0.3, 1), (0.5999, 1), (0.6001, 3), (0.999999, 3)]
)
def test_the_token_is_the_first_whose_cumulative_probability_exceeds_the_uniform_number(uniform, token):
    logits = torch.tensor([[0.1, 0.5, 0.0, 0.4]], dtype=torch.float64).log()  # the third token has probability 0
    tokens, *_ = draw(logits, torch.ones(1), torch.ones(1), torch.tensor([uniform + 1e-12], dtype=torch.float64))
    assert tokens.tolist() == [token]


@pytest.mark.parametrize("top_p", [0.4, 1.0])
def test_a_token_of_probability_zero_is_never_sampled(top_p):
    logits = torch.tensor([[0.0, 0.1, 0.9, 0.0]], dtype=torch.float64).log().expand(2, -1)
    uniform = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    tokens, logprobs, _ = draw(logits, torch.ones(2), torch.full((2,), top_p), uniform)
    assert tokens.tolist() == ([1, 2] if top_p == 1 else [2, 2])
    assert logprobs.tolist() == pytest.approx([np.log(0.1 if top_p == 1 else 0.9), np.log(0.9)])


@pytest.mark.parametrize("logits", [[0.0, -22.0, -22.0, -22.0], [3.0, 1.0, -30.0, -60.0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_does_not_depend_on_the_top_p_of_another_row(logits, dtype):
    uniform = torch.tensor([1 - 1e-10, 0.5], dtype=torch.float64)
    rows = torch.tensor([logits, logits], dtype=dtype)
    alone, *_ = draw(rows[:1], torch.ones(1), torch.ones(1), uniform[:1])
    together, *_ = draw(rows, torch.ones(2), torch.tensor([1.0, 0.9]), uniform)
    assert int(together[0]) == int(alone[0])


@pytest.mark.parametrize("size", [5, BLOCK * 8 + 1, BLOCK * 10, BLOCK * 12 + 77])
def test_the_blockwise_search_finds_the_same_token_as_one_cumulative_sum(size):
    """The expected token comes from the float64 cumulative sum over the whole vocabulary."""
    rows = torch.randn(300, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64).mul(3).softmax(-1)
    rows[:, size // 3 : size // 2] = 0
    uniform = torch.from_numpy(uniforms(8, 300))
    uniform[:3] = torch.tensor([0, 1 - 2**-40, 0.5], dtype=torch.float64)
    cumulative = rows.numpy().cumsum(-1)
    expected = [
        int(np.searchsorted(row, row[-1] * u, "right")) for row, u in zip(cumulative, uniform.tolist(), strict=True)
    ]
    assert invert(rows, uniform).tolist() == expected
    assert len(set(expected)) > min(size, 100) // 2


@pytest.mark.parametrize("top_p", [0.7, 1.0])
def test_token_frequencies_over_many_blocks(top_p):
    generator = np.random.default_rng(4)
    logits = [0.5 * generator.normal() - 8.0 * (index % 128 != 5) for index in range(BLOCK * 12 + 30)]
    tokens, *_ = drawn(logits, 1.0, top_p, count=10_000)
    expected = exact_nucleus(softmax(logits, 1.0), top_p)
    likely = np.flatnonzero(expected > 1e-2)
    counts = np.bincount(tokens.numpy(), minlength=len(logits))
    assert counts[expected == 0].sum() == 0
    observed = [*counts[likely], counts.sum() - counts[likely].sum()]
    shares = [*expected[likely], 1 - expected[likely].sum()]
    assert len(likely) > 5
    if shares[-1] < 1e-9:
        observed, shares = observed[:-1], shares[:-1]
    assert chisquare(observed, np.array(shares) / sum(shares) * sum(observed)).pvalue > 1e-3


@pytest.mark.parametrize("size", [5, BLOCK * 8 + 1, BLOCK * 9 + 60])
def test_nan_logits_give_a_valid_token_and_a_log_prob_that_is_not_finite(size):
    logits = torch.zeros(2, size)
    logits[1, 3] = torch.nan
    tokens, logprobs, at_one = draw(logits, torch.ones(2), torch.ones(2), torch.full((2,), 0.5, dtype=torch.float64))
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < size
    assert logprobs.isfinite().tolist() == at_one.isfinite().tolist() == [True, False]


def test_half_precision_logits_are_normalised_in_float32():
    logits = torch.tensor([LOGITS]).bfloat16()
    _, logprobs, _ = draw(logits, torch.ones(1), torch.ones(1), torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(logprobs, logits.float().log_softmax(-1)[:, 0])


def test_uniform_numbers_depend_on_their_stream_alone():
    streams = [0, 1, 2**127 + 5, 12345]
    rows = [uniforms(stream, 64).tolist() for stream in streams]
    for stream, row in list(zip(streams, rows, strict=True))[::-1]:
        assert uniforms(stream, 64).tolist() == row
        assert uniforms(stream, 10).tolist() == row[:10]  # a longer token limit only appends numbers
    assert len({tuple(row) for row in rows}) == len(streams)


def test_uniform_numbers_do_not_use_the_global_generators():
    np.random.seed(3)
    torch.manual_seed(3)
    expected = np.random.random(), torch.rand(1).item()
    np.random.seed(3)
    torch.manual_seed(3)
    uniforms(1, 10)
    assert (np.random.random(), torch.rand(1).item()) == expected


def test_uniform_numbers_are_uniform():
    values = np.stack([uniforms(stream, 100) for stream in range(200)])
    assert values.dtype == np.float64
    assert 0 <= values.min() <= values.max() < 1
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    assert chisquare(counts).pvalue > 1e-3
