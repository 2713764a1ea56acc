"""How much work does each round do? ``python -m experiments.steps_by_round <evaluation>/*_rounds3.jsonl``.

A step is a line between ``<reasoning>`` and ``</reasoning>``, as ``src.warmup`` writes worked solutions. Prints, for
each file and round, the shares of rounds with one, two and more complete lines, and of those that the budget cut.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.utils import tables
from src.utils.files import read_jsonl

REASONING = re.compile(r"<reasoning>\n(.*?)(</reasoning>|$)", re.DOTALL)


def steps(text: str) -> int:
    """Complete lines of a round's reasoning; a last line that the budget cut does not count."""
    found = REASONING.search(text)
    return found.group(1).count("\n") if found else 0


def shares(chains: list[Mapping[str, Any]], number: int) -> list[float]:
    """Shares of the chains whose round with this index has one, two and more steps, and of those that are cut there.

    Chains that ended earlier do not count.
    """
    rounds = [
        (steps(chain["texts"][number]), chain["statuses"][number]) for chain in chains if number < chain["rounds"]
    ]
    counts = [sum(found == 1 for found, _ in rounds), sum(found == 2 for found, _ in rounds)]
    more, cut = sum(found > 2 for found, _ in rounds), sum(status == "truncated" for _, status in rounds)
    return [count / len(rounds) for count in (*counts, more, cut)]


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    rows = []
    for file in parser.parse_args().files:
        chains = list(read_jsonl(file))
        for number in range(max(chain["rounds"] for chain in chains)):
            rows.append([str(file), str(number + 1), *(f"{100 * share:.1f}" for share in shares(chains, number))])
    names = ["file", "round", "one step (%)", "two (%)", "more (%)", "cut by the budget (%)"]
    sys.stdout.write(tables.markdown(names, rows) + "\n")


if __name__ == "__main__":
    main()
