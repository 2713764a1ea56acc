"""Does a policy guess the same answer again and again? ``python -m experiments.constant_answers <evaluation>/*.jsonl``.

Prints, for each file, the answer that the policy states most often and the share of answers that state it, its
accuracy, the share of problems for which this answer is right (the accuracy of stating nothing else), and the policy's
accuracy on all other problems. Evaluations record the same as ``repeated``; this reads the answers of older ones.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from src.evaluation.answers import repeated
from src.utils import tables
from src.utils.files import read_jsonl


def row(file: Path) -> list[str]:
    """The cells of a file; "-" where there is no such number."""
    records = list(read_jsonl(file))
    found = repeated(records) or {"answer": "-", "stated": 0.0, "gold": None, "elsewhere": None}
    accuracy = statistics.fmean(record["correct"] for record in records)
    shares = [found["stated"], accuracy, found["gold"], found["elsewhere"]]
    return [str(file), found["answer"], *("-" if share is None else f"{100 * share:.1f}" for share in shares)]


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    rows = [row(file) for file in parser.parse_args().files]
    names = ["file", "most frequent answer", "stated (%)", "accuracy (%)", "right for (%)", "right elsewhere (%)"]
    sys.stdout.write(tables.markdown(names, rows) + "\n")


if __name__ == "__main__":
    main()
