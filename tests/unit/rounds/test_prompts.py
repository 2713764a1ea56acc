"""Prompts: placeholders, rounds, the system message."""

from __future__ import annotations

from src.rounds.prompts import Prompts, fill

PROMPTS = Prompts(
    first="Q {question} {other}",
    later="Q {question} P {progress} after {previous}, now {round}/{rounds}",
    final=" last of {rounds}",
    item="{progress}",
)


def text(prompts: Prompts, progress: str | None, round: int, rounds: int) -> str:
    (message,) = prompts.messages("1+1", progress, round, rounds)
    assert message["role"] == "user"
    return message["content"]


def test_braces_without_a_value_stay_as_they_are() -> None:
    assert fill(r"{question} \boxed{7} {progress} {}", {"question": "x"}) == r"x \boxed{7} {progress} {}"


def test_rounds_are_numbered_from_one() -> None:
    assert text(PROMPTS, None, 1, 3) == "Q 1+1 {other}"
    assert text(PROMPTS, "p", 2, 3) == "Q 1+1 P p after 1, now 2/3"
    assert text(PROMPTS, "", 3, 3) == "Q 1+1 P  after 2, now 3/3 last of 3"


def test_a_system_prompt_comes_first_and_an_empty_one_is_left_out() -> None:
    messages = PROMPTS.replace(system="Think.").messages("1+1", None, 1, 1)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"] == "Think."
    assert len(PROMPTS.messages("1+1", None, 1, 1)) == 1
