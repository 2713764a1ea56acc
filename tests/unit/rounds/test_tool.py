"""Tools: results in the middle of a turn, the calculator, and what counts as generated and trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from src.rounds.carry.answer import Answer
from src.rounds.growing import grow
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.rounds.tool.calculator import LONGEST, Calculator
from src.training.rollout_files import pieces, segments
from src.types import Problem, Rollout, Row, Sampling, Status, Turn
from tests.helpers.scripted import Letters, Scripted

TOOL = Calculator(opening="[", closing="]", result="{result};")
BUDGETS = {"context": 99, "first_tokens": 40, "later_tokens": 40, "progress_tokens": 9}


def grown(script: Callable[[Turn], str], tool: Calculator = TOOL, tokens: int = 40, **shape: Any) -> Rollout:
    budgets = BUDGETS | {"first_tokens": tokens, "later_tokens": tokens}
    prompts = Prompts(first="q", later="q{progress}")
    strategy = MultiRound(**{"n": 1, "responses": 1, **shape}, prompts=prompts, carry=Answer(), tool=tool, **budgets)
    return grow(Scripted(script), strategy, [Problem("p", "q", "4")], Letters(), (0,))[0]


def after(*writes: tuple[str, str]) -> Callable[[Turn], str]:
    """A script that writes a text after the end of a prompt; of several ends the first that fits."""
    return lambda turn: next(text for end, text in writes if Letters().decode(turn.prompt).endswith(end))


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("-(2 - 5) - -1", "4"),
        ("7 / 2", "3.5"),
        ("1/3*3", "1"),
        ("10 / 4 / 5", "0.5"),
        ("$1,250.50 * 2 =", "2501"),
        ("0.1 + 0.2", "0.3"),
        ("2 / 3", "0.666666666667"),
        ("3\N{MULTIPLICATION SIGN}4\N{DIVISION SIGN}2", "6"),
        ("1 / (2 - 2)", "error: division by zero"),
        ("", "error: empty expression"),
        ("2 +", "error: the expression ends too early"),
        ("(2", "error: missing )"),
        ("2 3", "error: unexpected '3'"),
        ("2 ** 9", "error: unexpected '*'"),
        ("__import__('os')", "error: unexpected '_'"),
        ("1" * (LONGEST + 1), f"error: expression of {LONGEST + 1} characters, at most {LONGEST}"),
        ("(" * LONGEST, "error: the expression ends too early"),
        ("9*" * 99 + "9", str(9**100)),
        ("\N{ARABIC-INDIC DIGIT THREE}+1", "4"),
        (".", "error: unexpected '.'"),
    ],
)
def test_the_calculator_is_exact_and_never_raises(expression: str, result: str) -> None:
    assert Calculator().run(expression) == result


def test_the_result_goes_on_in_the_same_turn() -> None:
    rollout = grown(after(("q", "so [1+2]"), ("3;", " is 3")))
    (turn,) = rollout.turns
    assert turn.text == "so [1+2]3; is 3"
    assert turn.prompt == Letters().encode("q")
    assert Letters().decode(turn.completion) == turn.text
    assert turn.mask == (True,) * 8 + (False,) * 2 + (True,) * 5
    assert (turn.generated, rollout.tokens) == (13, 13)
    assert turn.sampling.max_new_tokens == 40
    assert segments(turn, Letters()) == [["policy", "so [1+2]"], ["environment", "3;"], ["policy", " is 3"]]
    assert (row := Row.of(turn, 1.0, 1.0)).mask == turn.mask
    assert row.trained == 13


def test_a_turn_without_a_call_has_no_mask() -> None:
    (turn,) = grown(after(("q", "1+2"))).turns
    assert turn.mask == ()
    assert turn.generated == 3


def test_a_wrong_expression_returns_an_error_text() -> None:
    (turn,) = grown(after(("q", "[1+]"), ("too early;", "!")), tokens=60).turns
    assert turn.text == "[1+]error: the expression ends too early;!"
    assert turn.generated == 5


def test_calls_after_the_last_one_get_no_result() -> None:
    seen: list[str] = []

    def script(turn: Turn) -> str:
        seen.append(turn.sampling.stop)
        return "[1]"

    (turn,) = grown(script, TOOL.replace(calls=2)).turns
    assert turn.text == "[1]1;[1]1;[1]"
    assert seen == ["]", "]", ""]


def test_a_closing_text_without_an_opening_one_calls_nothing() -> None:
    (turn,) = grown(after(("q", "a]"), ("a]", "[2]"), ("2;", "."))).turns
    assert turn.text == "a][2]2;."
    assert turn.generated == 6


def test_results_take_room_of_the_budget() -> None:
    budgets: list[int] = []

    def script(turn: Turn) -> str:
        budgets.append(turn.sampling.max_new_tokens)
        return "[1+2]" if len(budgets) == 1 else "x"

    grown(script, tokens=8)
    assert budgets == [8, 1]
    budgets.clear()
    (turn,) = grown(script, tokens=7).turns
    assert (turn.text, turn.status) == ("[1+2]", Status.TRUNCATED)


def test_every_part_of_a_turn_has_its_own_random_numbers() -> None:
    streams: list[int] = []

    def script(turn: Turn) -> str:
        streams.append(turn.stream)
        return "[1]" if turn.prompt == Letters().encode("q") else "x"

    rollout = grown(script, responses=2)
    assert len(set(streams)) == 4
    assert {turn.stream for turn in rollout.turns} <= set(streams)


def test_later_rounds_call_tools_too() -> None:
    rollout = grown(after(("q", "<answer>a</answer>"), ("qa", "[1+2]"), ("3;", "b")), n=2, trajectories=1)
    assert [turn.text for turn in rollout.turns] == ["<answer>a</answer>", "[1+2]3;b"]


def test_pieces_of_the_environment_have_no_logprob() -> None:
    turn = Turn((0,), (1,), Sampling(4), completion=Letters().encode("ab"), logprobs=(-0.5, 0.0), mask=(True, False))
    assert pieces(turn, Letters()) == [["a", -0.5], ["b", None]]


def test_a_result_without_its_field_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rounds.tool.result='x' must contain \{result\}"):
        Calculator(result="x")


def test_a_strategy_without_a_tool_is_described_as_before() -> None:
    plain = MultiRound(n=1, prompts=Prompts(first="", later=""), carry=Answer(), **BUDGETS)
    assert "tool" not in plain.described()
    assert plain.replace(tool=TOOL).described()["tool"]["closing"] == "]"


def test_results_are_shown_live() -> None:
    shown: list[str] = []
    budgets = BUDGETS | {"responses": 1}
    strategy = MultiRound(n=1, prompts=Prompts(first="q", later=""), carry=Answer(), tool=TOOL, **budgets)
    script = after(("q", "[1+2]"), ("3;", "x"))
    grow(
        Scripted(script),
        strategy,
        [Problem("p", "q", "")],
        Letters(),
        (0,),
        on_token=lambda _, one: shown.append(chr(one)),
    )
    assert shown == ["3", ";"]  # this engine shows none of its own
