"""Does a policy guess the same answer again and again? ``python -m experiments.constant_answers <evaluation>/*.jsonl``.

Prints, for each file, the answer that the policy states most often and the share of answers that state it, its
accuracy, the share of problems whose gold answer this is (the accuracy of stating nothing else), and the policy's
accuracy on all other problems.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.utils import tables
from src.utils.files import read_jsonl


def guesses(chains: Sequence[Mapping[str, Any]]) -> tuple[str, list[float]]:
    """The most frequent answer, and four shares: of answers that state it, of right answers, of answers whose gold
    answer it is, and of right ones among all others (0 if there are none)."""
    stated = Counter(chain["answer"] for chain in chains if chain["answer"] is not None)
    if not stated:
        return "", [0.0, 0.0, 0.0, 0.0]
    ((answer, count),) = stated.most_common(1)
    others = [chain["correct"] for chain in chains if chain["gold"] != answer]
    total = len(chains)
    right = sum(chain["correct"] for chain in chains)
    return answer, [count / total, right / total, 1 - len(others) / total, sum(others) / max(1, len(others))]


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    rows = []
    for file in parser.parse_args().files:
        answer, shares = guesses(list(read_jsonl(file)))
        rows.append([str(file), answer, *(f"{100 * share:.1f}" for share in shares)])
    names = ["file", "most frequent answer", "stated (%)", "accuracy (%)", "gold (%)", "accuracy on the others (%)"]
    sys.stdout.write(tables.markdown(names, rows) + "\n")


if __name__ == "__main__":
    main()
