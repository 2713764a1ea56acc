"""``src.solve`` prints the accepted rounds and their answer."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest

from src import config as configuration
from src.config import compose
from src.evaluation.sampling import accepted
from src.rounds.growing import grow
from src.run import build_run
from src.solve import job, quoted, solve
from src.types import InputError, Problem, Status
from src.verifiers.tags import stated_answer
from tests.conftest import run_small

QUESTION = "State the final answer to the following arithmetic problem: 4 - 9 + 3 - 7 + 8 - 2 + 6 ="
OTHER = "State the final answer to the following arithmetic problem: 4 - 9 + 3 ="


@pytest.mark.parametrize("seed", range(12))
def test_with_a_search_only_the_accepted_chain_is_printed(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["rounds=3", "rounds/search=vote", f"seed={seed}", "temperature=1.0", "threads=1"]
    config = compose("solve", [f"question='{QUESTION}'", *overrides])
    answer = solve(config, Path())
    said = capsys.readouterr().out
    run = build_run(config, Path(), splits=_one(), cache_tokens=512)
    chain = config.settings.rounds.independent(3, 1, 1.0, 1.0)
    (rollout,) = grow(run.engine, chain, [Problem("question", QUESTION, "")], run.codec, (seed, "solve"))
    kept = accepted(rollout)
    assert all(turn.status != Status.PRUNED for turn in kept)
    assert answer == stated_answer(kept[-1].said)
    assert [line for line in said.splitlines() if line.startswith("round ")] == [
        f"round {turn.round} of 3" for turn in kept
    ]
    assert all(turn.text in said for turn in kept), "rows are not interleaved"


def _one():
    from src.benchmarks.base import Splits

    return Splits([], [], {"question": [Problem("question", QUESTION, "")]})


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=delethink"],
        ["experiment=memagent"],
        ["experiment=inftythink-plus"],
        ["rounds=1"],
        ["rounds/carry=history", "rounds=4"],
        ["model.context=300", "model.prompts.final=' Last round.'"],
    ],
    ids=" ".join,
)
def test_the_command_that_a_run_prints_works_for_that_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str]
) -> None:
    run = run_small(tmp_path / "run", *overrides, "train.steps=1", "evaluation.before=false", "rounds.responses=4")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Look closer: ")]
    python, dash, module, *arguments = shlex.split(line.removeprefix("Look closer: "))
    assert (python, dash, module) == ("python", "-m", "src.solve")
    assert configuration.launch("solve", job, [quoted(argument) for argument in arguments]) == 0
    said = capsys.readouterr().out
    rounds = configuration.recorded(run).settings.rounds
    assert f"round 1 of {rounds.n}" in said
    assert "answer: " in said


@pytest.mark.parametrize(
    "text",
    ['"a" is "b"', "'a' or 'b'", "it's", "a, b = {c} [d]", "$x ${y}", r"a \"b\" \ c", "\\boxed{3}?", "a\\", r"\'\${x}"],
)
def test_a_question_is_asked_as_typed(text: str) -> None:
    assert compose("solve", [quoted(f"question={text}")]).settings.question == text


@pytest.mark.parametrize("argument", ["question='a = b'", 'question="a = b"'])
def test_a_question_that_is_quoted_already_keeps_its_quotes_to_itself(argument: str) -> None:
    assert compose("solve", [quoted(argument)]).settings.question == "a = b"


def test_an_empty_question_is_refused() -> None:
    with pytest.raises(InputError, match="question is empty"):
        solve(compose("solve", ["question='  '"]), Path())


class Typed(io.StringIO):
    """Lines that somebody types."""

    def isatty(self) -> bool:
        return True


def test_several_questions_are_answered_in_one_session(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = solve(compose("solve", [f"question='{QUESTION}'", "threads=1"]), Path())
    rounds = capsys.readouterr().out
    config = compose("solve", ["threads=1"])
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\n{OTHER}\n{QUESTION}\n"))
    assert solve(config, Path()) == alone
    piped = capsys.readouterr().out
    assert piped.endswith(f"question: {QUESTION}\n{rounds}"), "the same rounds as alone"
    assert piped.count("answer: ") == 2
    monkeypatch.setattr("sys.stdin", Typed(f"{OTHER}\n{'1 + ' * 400}1 =\n{QUESTION}\n\n{OTHER}\n"))
    assert solve(config, Path()) == alone
    typed = capsys.readouterr().out
    assert typed.count("answer: ") == 2, "the long question is refused, and the empty line ends"
    assert "context" in typed


def test_no_question_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(InputError, match="there is no question; give one with question=…"):
        solve(compose("solve", ["threads=1"]), Path())
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{'1 + ' * 400}1 =\n"))
    with pytest.raises(InputError, match="context"):
        solve(compose("solve", ["threads=1"]), Path())
