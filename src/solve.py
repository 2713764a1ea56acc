"""Answer one question and show every round as it is written: ``python -m src.solve question="…" rounds=3``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from src import config as configuration

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from src.types import Turn


def solve(config: DictConfig) -> None:
    """One chain of rounds, printed token by token, then the answer that it states."""
    from src.estimating.fitting import check_memory
    from src.estimating.memory import Job
    from src.models.loading import load_codec, load_policy
    from src.rounds.growing import grow
    from src.types import InputError, Problem
    from src.utils.environment import set_threads
    from src.verifiers.tags import stated_answer

    set_threads(config.threads)
    saved, _ = configuration.checkpoint_of(config)
    model = configuration.build(config.model, configuration.section("model"))
    strategy = configuration.build(config.rounds)
    chain = strategy.independent(strategy.n, 1, config.temperature, config.top_p)
    if config.question is None or (errors := chain.check()):
        raise InputError(*(["question is null; give one with question=…"] if config.question is None else errors))
    problem = Problem("question", str(config.question), "")
    codec = load_codec(model)
    configuration.check_lengths(chain, [problem], codec)
    check_memory(Job(model, model.context, lent=config.engine.get("memory", 0.0)))  # the cache of one row
    policy = load_policy(model, config.seed, saved, codec)
    engine = configuration.build(config.engine, weights=policy)
    shown: dict[Turn, list[int]] = {}

    def write(turn: Turn, token: int) -> None:
        if turn not in shown:
            shown[turn] = []
            if turn.carried:
                cut = " (cut)" if turn.carried_cut else ""
                print(f"  carried{cut}: {turn.carried}")
            print(f"\nround {turn.round} of {strategy.n}")
        before = policy.codec.decode(shown[turn])
        shown[turn].append(token)
        print(policy.codec.decode(shown[turn])[len(before) :], end="", flush=True)
        if token in policy.end_tokens:
            print()

    rollout = grow(engine, chain, [problem], policy.codec, (config.seed, "solve"), on_token=write)[0]
    last = rollout.turns[-1]
    if last.completion[-1] not in policy.end_tokens:
        print("\n  (ran out of its token budget)")
    answer = stated_answer(last.said)
    print(f"\nanswer: {answer if answer is not None else 'none stated'}")


def quoted(argument: str) -> str:
    """``question=<any text>`` as Hydra's grammar wants it; what is quoted already stays as it is."""
    key, _, text = argument.partition("=")
    if key != "question" or (len(text) > 1 and text[0] == text[-1] and text[0] in "'\""):
        return argument
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"question='{escaped}'"


if __name__ == "__main__":
    sys.exit(configuration.launch("solve", solve, [quoted(argument) for argument in sys.argv[1:]]))
