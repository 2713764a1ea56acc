"""Growth of rollout trees: prompts, branching, carry rules, budgets, search, random streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from src.rounds.carry.answer import Answer
from src.rounds.carry.history import History
from src.rounds.carry.memory import Memory
from src.rounds.carry.none import Nothing
from src.rounds.carry.tail import Tail, pinned
from src.rounds.growing import grow, stream
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.rounds.search.base import Thought, by_votes, thoughts
from src.rounds.search.value import Value
from src.rounds.search.vote import Vote
from src.types import InputError, Problem, Rollout, Sampling, Status, Turn, Writer
from tests.helpers.scripted import Letters, Scripted

PROMPTS = Prompts(
    first="Q {question}",
    later="Q {question} P {progress} R {round}/{rounds}",
    final=" LAST",
    item="<{round}:{progress}>",
)
PROBLEMS = [Problem("a", "1+1 {progress}", "2"), Problem("b", "2+2", "4")]


def strategy(n: int = 3, **changes: Any) -> MultiRound:
    settings: dict[str, Any] = {
        "responses": 3,
        "trajectories": 2,
        "context": 500,
        "first_tokens": 50,
        "later_tokens": 60,
    }
    return MultiRound(n=n, prompts=PROMPTS, **{**settings, "carry": Answer(), "progress_tokens": 20, **changes})


def grown(rounds: MultiRound, script: Callable[[Turn], str], **options: Any) -> Rollout:
    return grow(Scripted(script), rounds, PROBLEMS, Letters(), ("key",), **options)[0]


def says(turn: Turn) -> str:
    return f"<answer>p{turn.round}</answer>"


def texts(rollout: Rollout, number: int) -> list[str]:
    return [Letters().decode(turn.prompt) for turn in rollout.level(number)]


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"n": 1}, [3]),
        ({"n": 3}, [3, 6, 6]),
        ({"n": 5, "responses": 8, "trajectories": 4}, [8, 32, 32, 32, 32]),
        ({"n": 3, "branching": [2, 3, 2]}, [2, 6, 12]),
    ],
)
def test_branching(changes: dict[str, Any], counts: list[int]) -> None:
    rollout = grown(strategy(**changes), says)
    assert [len(rollout.level(number)) for number in range(1, len(counts) + 1)] == counts
    assert len(rollout.turns) == sum(counts)
    assert len(rollout.leaves()) == counts[-1]


def test_a_prompt_contains_only_the_question_and_the_last_progress() -> None:
    rollout = grown(strategy(3), says)
    assert set(texts(rollout, 1)) == {"Q 1+1 {progress}"}  # braces in a question are no fields
    assert set(texts(rollout, 2)) == {"Q 1+1 {progress} P p1 R 2/3"}
    assert set(texts(rollout, 3)) == {"Q 1+1 {progress} P p2 R 3/3 LAST"}
    assert {turn.final for turn in rollout.level(3)} == {True}
    assert {turn.final for turn in rollout.level(2)} == {False}


def test_one_round_is_first_and_last() -> None:
    assert set(texts(grown(strategy(1), says), 1)) == {"Q 1+1 {progress} LAST"}


def test_history_carries_every_progress() -> None:
    rollout = grown(strategy(3, carry=History()), says)
    assert {turn.carried for turn in rollout.level(3)} == {"<1:p1>\n<2:p2>"}


def test_a_memory_is_the_whole_text_of_the_previous_round() -> None:
    rollout = grown(strategy(3, carry=Memory(), progress_tokens=40), lambda turn: f" t{turn.round} <answer>p</answer> ")
    assert {turn.carried for turn in rollout.level(3)} == {"t2 <answer>p</answer>"}


def test_carrying_nothing_repeats_the_first_prompt() -> None:
    rollout = grown(strategy(3, carry=Nothing()), says)
    assert [set(texts(rollout, number)) for number in (1, 2, 3)] == [
        {"Q 1+1 {progress}"},
        {"Q 1+1 {progress}"},
        {"Q 1+1 {progress} LAST"},
    ]


def test_a_tail_continues_one_message() -> None:
    """Three rounds of "abcdefghij…": each opens with the pinned head and the last tokens, and is scored as a whole."""
    letters = "abcdefghijklmnopqrstuvwxyz"

    def script(turn: Turn) -> str:
        return letters[10 * (turn.round - 1) : 10 * turn.round]

    rounds = strategy(3, carry=Tail(head=0.5), progress_tokens=6, responses=1, trajectories=1)
    rollout = grow(Scripted(script, status=Status.TRUNCATED), rounds, PROBLEMS, Letters(), ("key",))[0]
    opening = "Q 1+1 {progress} LAST"  # asked as one round is
    assert [texts(rollout, number) for number in (1, 2, 3)] == [[opening], [opening + "abchij"], [opening + "abcrst"]]
    assert [turn.said for turn in rollout.turns] == [letters[:10], letters[:20], letters]
    assert [turn.carried_cut for turn in rollout.turns] == [False, True, True]
    assert [turn.carried for turn in rollout.turns] == ["", "abchij", "abcrst"]
    assert {turn.writer for turn in rollout.turns} == {Writer.POLICY}
    by_base = grow(
        Scripted(script, status=Status.TRUNCATED),
        rounds.replace(progress_tokens=10, continuation="base"),
        PROBLEMS,
        Letters(),
        ("key",),
    )[0]
    assert [turn.writer for turn in by_base.turns] == [Writer.POLICY, Writer.BASE, Writer.BASE]
    assert [turn.carried_cut for turn in by_base.turns] == [False, False, True]  # ten of ten letters, then of twenty
    ended = grow(Scripted(script), rounds, PROBLEMS, Letters(), ("key",))[0]
    assert [turn.path for turn in ended.turns] == [(0,)]  # the model ended the message itself


@pytest.mark.parametrize(
    ("budget", "head", "kept"),
    [(9, 0.5, "abcdefgh"), (8, 0.5, "abcdefgh"), (6, 0.5, "abcfgh"), (6, 0.0, "cdefgh"), (2, 0.9, "ah"), (1, 0.9, "h")],
)
def test_pinned(budget: int, head: float, kept: str) -> None:
    assert "".join(map(chr, pinned([ord(letter) for letter in "abcdefgh"], budget, head))) == kept


def test_probes_start_from_the_question_and_from_every_continued_turn() -> None:
    rollout = grown(strategy(3, responses=2, trajectories=1, probes=2), says)
    assert [len(rollout.level(number)) for number in (1, 2, 3)] == [2, 2, 2]  # probes are no part of a level
    probes = [turn.path for turn in rollout.turns if turn.probe]
    assert [path for path in probes if len(path) == 1] == [(2,), (3,)]
    assert [path for path in probes if path[0] == 0] == [(0, 1), (0, 2), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 2, 0)]
    assert all(rollout.children(path) == [] for path in probes)
    assert {turn.final for turn in rollout.leaves()} == {True}
    assert not any(turn.probe for turn in grown(strategy(3, probes=2).independent(3, 2, 1.0, 1.0), says).turns)


def test_a_vote_keeps_the_most_common_thought_and_then_the_most_common_answer() -> None:
    said = {1: "xyyz", 2: "ppqq", 3: "rsts"}

    def script(turn: Turn) -> str:
        return f"<answer>{said[turn.round][turn.path[-1]]}</answer>"

    rounds = strategy(3, search=Vote(candidates=4))
    for order in (-1, 0):
        rollout = grow(Scripted(script, order), rounds, PROBLEMS, Letters(), ("key",))[0]
        kept = [turn.path for turn in rollout.turns if turn.live]
        assert kept == [(1,), (1, 0), (1, 0, 1)]  # y of xyyz; p comes first; s of rsts
        assert [turn.path for turn in rollout.leaves()] == [(1, 0, 1)]
        assert {turn.status for turn in rollout.turns} == {Status.DONE, Status.PRUNED}
        assert len(rollout.turns) == 12


def test_a_wide_beam_keeps_different_thoughts_and_ends_with_one() -> None:
    def script(turn: Turn) -> str:
        said = {(): "aab", (0,): "pqq", (2,): "qpq"}
        return f"<answer>{said[turn.source][turn.path[-1]]}</answer>"

    rollout = grown(strategy(2, search=Vote(candidates=3, keep=2)), script)
    assert [turn.path for turn in rollout.level(1) if turn.live] == [(0,)]  # (2,) went on, and lost all its children
    assert {turn.source for turn in rollout.level(2)} == {(0,), (2,)}
    assert [turn.path for turn in rollout.leaves()] == [(0, 1)]


def test_a_search_ranks_finished_and_unfinished_candidates_together() -> None:
    """A concluded candidate stays a candidate; with one candidate left the tree goes on all the same."""

    def script(turn: Turn) -> str:
        return "<answer>\\boxed{7}</answer>" if turn.path == (0,) else f"<answer>p{turn.path[-1]}</answer>"

    rollout = grown(strategy(2, search=Vote(candidates=2, keep=2), ending="concludes"), script)
    assert [turn.path for turn in rollout.turns] == [(0,), (1,), (1, 0), (1, 1)]
    assert [turn.path for turn in rollout.leaves()] == [(0,)]  # all three differ: the first stands


def test_values_are_the_agreement_of_probes() -> None:
    """The second candidate's probes both end with 7, as most probes do."""
    ends = {(0, 4): "1", (0, 5): "2", (1, 4): "7", (1, 5): "7", (2, 4): "7", (2, 5): "3", (3, 4): "4", (3, 5): "5"}

    def script(turn: Turn) -> str:
        return f"<answer>\\boxed{{{ends.get(turn.path, '9')}}}</answer>"

    rollout = grown(strategy(2, search=Value(candidates=4), probes=2), script)
    assert [turn.path for turn in rollout.level(1) if turn.live] == [(1,)]
    assert [turn.path for turn in rollout.leaves()] == [(1, 0)]
    assert {turn.round for turn in rollout.turns if turn.probe} == {2}


@pytest.mark.parametrize(("keep", "kept"), [("tail", "6789"), ("head", "0123")])
def test_a_long_progress_keeps_its_configured_end(keep: str, kept: str) -> None:
    rollout = grown(strategy(2, keep=keep, progress_tokens=4), lambda turn: "<answer>0123456789</answer>")
    assert {(turn.carried, turn.carried_cut) for turn in rollout.level(2)} == {(kept, True)}


def test_concluding_ends_a_tree_early() -> None:
    def script(turn: Turn) -> str:
        return "<answer>\\boxed{2}</answer>" if turn.path[0] == 0 else says(turn)

    early = grown(strategy(3, ending="concludes"), script)
    assert [turn.path for turn in early.turns if turn.path[0] == 0] == [(0,)]
    assert len(early.level(3)) == 4
    assert len(grown(strategy(3), script).level(3)) == 6


def test_the_base_may_continue() -> None:
    rollout = grown(strategy(3, continuation="base"), says)
    assert [{turn.writer for turn in rollout.level(number)} for number in (1, 2, 3)] == [
        {Writer.POLICY},
        {Writer.BASE},
        {Writer.BASE},
    ]
    evaluated = grown(strategy(3, continuation="base").independent(3, 4, 0.5, 0.9), says)
    assert {turn.writer for turn in evaluated.turns} == {Writer.POLICY}
    assert len(evaluated.turns) == 12
    assert {(turn.sampling.temperature, turn.sampling.top_p) for turn in evaluated.turns} == {(0.5, 0.9)}


def test_depth_stops_growth() -> None:
    assert [turn.round for turn in grown(strategy(3), says, depth=1).turns] == [1, 1, 1]


def test_each_turn_has_its_own_random_stream() -> None:
    trees = grow(Scripted(says), strategy(3), PROBLEMS, Letters(), ("key", 7))
    streams = {(tree.problem.id, turn.path): turn.stream for tree in trees for turn in tree.turns}
    assert len(set(streams.values())) == len(streams)
    assert streams["a", (1, 0)] == stream("key", 7, "a", (1, 0))
    swapped = grow(Scripted(says), strategy(3), PROBLEMS[::-1], Letters(), ("key", 7))
    assert {(tree.problem.id, turn.path): turn.stream for tree in swapped for turn in tree.turns} == streams
    other = grow(Scripted(says), strategy(3), PROBLEMS, Letters(), ("key", 8))
    assert not {turn.stream for tree in other for turn in tree.turns} & set(streams.values())


def test_a_rounds_budget_is_limited_by_the_context() -> None:
    rollout = grown(strategy(2, context=70), says)
    assert {turn.sampling.max_new_tokens for turn in rollout.level(1)} == {50}
    prompt = len("Q 1+1 {progress} P p1 R 2/2 LAST")
    assert {turn.sampling.max_new_tokens for turn in rollout.level(2)} == {70 - prompt}


@pytest.mark.parametrize(("n", "context", "word"), [(1, 10, "first prompt"), (2, 45, "rounds.progress_tokens=20")])
def test_a_problem_that_does_not_fit_is_named(n: int, context: int, word: str) -> None:
    with pytest.raises(InputError, match="problem 'a' is too long") as caught:
        strategy(n, context=context).check_problem(PROBLEMS[0], Letters())
    assert word in str(caught.value)
    assert "model.context" in str(caught.value)


def test_an_interruption_ends_growth() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grown(strategy(2), says, interrupt=interrupt)


@pytest.mark.parametrize(("text", "kept"), [("<answer>0123</answer>", "0123"), ("0123", "0123"), ("<answer>01", "01")])
def test_a_progress_that_just_fits_is_whole(text: str, kept: str) -> None:
    rollout = grown(strategy(2, progress_tokens=4), lambda turn: text)
    assert {(turn.carried, turn.carried_cut) for turn in rollout.level(2)} == {(kept, False)}


@pytest.mark.parametrize(
    ("text", "rounds"),
    [("\\boxed{2}", 1), ("\\boxed{2}<answer>not yet</answer>", 2), ("<answer>\\boxed{2</answer>", 2)],
)
def test_only_a_progress_that_holds_an_answer_concludes(text: str, rounds: int) -> None:
    rollout = grown(strategy(2, ending="concludes"), lambda turn: text)
    assert max(turn.round for turn in rollout.turns) == rounds


@pytest.mark.parametrize(
    ("status", "continued"),
    [(Status.DONE, 2), (Status.TRUNCATED, 2), (Status.FAILED, 0), (Status.PRUNED, 0), (Status.OPEN, 0)],
)
def test_only_live_turns_are_continued(status: Status, continued: int) -> None:
    rounds = strategy(2)
    first = replace(rounds.open(PROBLEMS[0], Letters())[0], status=status, text="<answer>p</answer>")
    assert len(rounds.extend(PROBLEMS[0], [first], Letters())) == continued


def test_first_and_later_rounds_have_their_own_sampling_parameters() -> None:
    rounds = strategy(2, temperature=0.9, later_temperature=0.3, later_top_p=0.8, stop_at_answer=True)
    first, later = (grown(rounds, says).level(number)[0].sampling for number in (1, 2))
    assert (first.max_new_tokens, first.temperature, first.top_p, first.stop_at_answer) == (50, 0.9, 1.0, True)
    assert (later.max_new_tokens, later.temperature, later.top_p, later.stop_at_answer) == (60, 0.3, 0.8, True)


@pytest.mark.parametrize("change", [{"keys": ("key", 8)}, {"id": "c"}, {"path": (0, 1)}, {"keys": ("key", "7")}])
def test_each_part_of_a_key_changes_the_stream(change: dict[str, Any]) -> None:
    place: dict[str, Any] = {"keys": ("key", 7), "id": "a", "path": (0, 0)}
    one, other = ({**place, **extra} for extra in ({}, change))
    assert stream(*one["keys"], one["id"], one["path"]) != stream(*other["keys"], other["id"], other["path"])


def test_streams_are_the_same_on_every_machine() -> None:
    assert stream(0, "train", 3, "train-5", (1, 0)) == 279662075123865368648041092689947498785


def test_trees_are_ordered_by_problem_and_turns_by_round() -> None:
    trees = grow(Scripted(says), strategy(2), PROBLEMS, Letters(), ("key",))
    assert [tree.problem.id for tree in trees] == ["a", "b"]
    for index, tree in enumerate(trees):
        assert {turn.tree for turn in tree.turns} == {index}
        assert [turn.path for turn in tree.turns][:4] == [(0,), (1,), (2,), (0, 0)]


@pytest.mark.parametrize(("n", "context", "round"), [(1, 20, 1), (2, 32, 2)])
def test_growth_names_the_round_whose_prompt_leaves_no_room(n: int, context: int, round: int) -> None:
    with pytest.raises(InputError, match=rf"problem 'a', round {round}: .* context of {context} \(model.context\)"):
        grown(strategy(n, context=context), says)


def test_a_system_prompt_opens_every_round() -> None:
    messages = PROMPTS.replace(system="S").messages("\\boxed{} {rounds}", "{round}", 2, 3)
    assert messages == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q \\boxed{} {rounds} P {round} R 2/3"},
    ]


class Marking(Letters):
    """A codec that decodes to one more character than it was given, as a cut inside a character does."""

    def decode(self, tokens: Sequence[int]) -> str:
        return super().decode(tokens) + "?"


@pytest.mark.parametrize(("budget", "kept"), [(4, "fgh?"), (1, "?")])
def test_a_cut_progress_is_shortened_until_it_fits_when_encoded_again(budget: int, kept: str) -> None:
    engine = Scripted(lambda turn: "<answer>abcdefgh</answer>")
    rollout = grow(engine, strategy(2, progress_tokens=budget), PROBLEMS, Marking(), ("key",))[0]
    assert {(turn.carried, turn.carried_cut) for turn in rollout.level(2)} == {(kept, True)}


# ranking of candidates


def candidate(path: tuple[int, ...], text: str, opening: str = "") -> Turn:
    return Turn(path, (1,), Sampling(9), status=Status.DONE, text=text, opening=opening)


def test_a_thought_is_the_answer_or_else_the_progress_without_white_space() -> None:
    assert thoughts([candidate((0,), "<answer>so \\boxed{ 1 + 2 }</answer>")]) == [Thought("1+2", stated=True)]
    assert thoughts([candidate((0,), "<answer>p 1\n2</answer>")]) == [Thought("p12", stated=False)]
    assert thoughts([candidate((0,), "2}", opening="\\boxed{1 ")]) == [Thought("12", stated=True)], (
        "what earlier rounds wrote counts"
    )
    texts = ["\\boxed{\\frac12}", "\\boxed{0.5}", "<answer>1 + 2</answer>", "<answer>3</answer>", "\\boxed{1/2}"]
    found = thoughts([candidate((0,), text) for text in texts])
    assert [one.text for one in found] == ["\\frac12", "\\frac12", "1+2", "3", "\\frac12"]


def test_last_turns_without_a_stated_answer_come_last() -> None:
    texts = ["<answer>5</answer>", "\\boxed{5}", "\\boxed{7}", "<answer>5</answer>", "<answer>5</answer>"]
    last = [replace(candidate((index,), text), final=True) for index, text in enumerate(texts)]
    assert Vote(candidates=5).rank(last, {}) == [1, 2, 0, 3, 4]
    assert Vote(candidates=5).rank([last[2], *last[3:]], {}) == [0, 1, 2], "a minority that states an answer"
    assert Value(candidates=5).rank(last, {}) == [1, 0, 2, 3, 4]
    earlier = [candidate((index,), text) for index, text in enumerate(texts)]
    assert Vote(candidates=5).rank(earlier, {}) == [0, 1, 2, 3, 4], "before the last round, progress is a result"


def test_votes_rank_one_copy_of_each_thought_before_the_second_copies() -> None:
    assert by_votes(list("abaca")) == [0, 1, 3, 2, 4]
    assert by_votes(list("bbaaa")) == [2, 0, 3, 1, 4]
    assert by_votes([]) == []


def test_values_are_shares_of_probes_that_end_as_most_do() -> None:
    pool = [candidate((index,), f"<answer>\\boxed{{{text}}}</answer>") for index, text in enumerate("xy7z")]
    probed = {
        (0,): [candidate((0, n), f"<answer>\\boxed{{{text}}}</answer>") for n, text in enumerate("7733333")],
        (1,): [candidate((1, n), f"<answer>\\boxed{{{text}}}</answer>") for n, text in enumerate("7771")],
        (3,): [candidate((3, n), f"<answer>\\boxed{{{text}}}</answer>") for n, text in enumerate("88")],
    }
    # 7 ends six of all probes, 3 five: values 2/7, 3/4, 1 (finished, its own probe) and 0
    assert Value(candidates=4).rank(pool, probed) == [2, 1, 0, 3]


def test_turns_know_what_was_carried_and_whether_it_was_cut() -> None:
    rollout = grown(strategy(2, progress_tokens=4), lambda turn: "<answer>long progress</answer>")
    assert {(turn.carried, turn.carried_cut) for turn in rollout.level(1)} == {("", False)}
    assert {turn.carried_cut for turn in rollout.level(2)} == {True}
    assert all(len(turn.carried) == 4 for turn in rollout.level(2))
    whole = grown(strategy(2, progress_tokens=20), lambda turn: "<answer>short</answer>")
    assert {(turn.carried, turn.carried_cut) for turn in whole.level(2)} == {("short", False)}
    nothing = grown(strategy(2, carry=Nothing()), says)
    assert {(turn.carried, turn.carried_cut) for turn in nothing.level(2)} == {("", False)}
