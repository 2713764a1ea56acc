"""In which round do chains of sums go wrong? ``python -m experiments.first_errors <evaluation>/*_rounds3.jsonl``.

A round of a chain sum hands on a number, or the sum that is left. A chain goes wrong in the first round that hands on
no sum, or one whose value is not the gold answer. Prints, for each file, the share of its chains by that round.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.utils import tables
from src.utils.files import read_jsonl

_SUM = re.compile(r"[+-]?\d+( ?[+-] ?-?\d+)*")
_TERM = re.compile(r"([+-]?) ?(-?\d+)")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


def value(handed: str) -> int | None:
    """The value of a handed-on sum such as ``-2 + 9 - -3``, or of a boxed one; ``None`` if it is no sum."""
    boxed = _BOXED.fullmatch(handed.strip())
    text = (boxed.group(1) if boxed else handed).strip()
    if not _SUM.fullmatch(text):
        return None
    return sum(-int(term) if sign == "-" else int(term) for sign, term in _TERM.findall(text))


def first_error(chain: Mapping[str, Any]) -> int:
    """The 1-based round in which a chain of an evaluation's answers goes wrong; 0 for a correct one."""
    if chain["correct"]:
        return 0
    gold = int(chain["gold"])
    for number, handed in enumerate(chain["carried"][1:], 1):
        if value(handed) != gold:
            return number
    return int(chain["rounds"])


def shares(file: Path) -> list[float]:
    """Shares of correct chains, and of chains that go wrong in round 1, 2, …"""
    chains = list(read_jsonl(file))
    counts = Counter(map(first_error, chains))
    return [counts[number] / len(chains) for number in range(max(chain["rounds"] for chain in chains) + 1)]


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    rows = [[str(file), *(f"{100 * share:.1f}" for share in shares(file))] for file in files]
    rounds = max(map(len, rows)) - 2
    sys.stdout.write(
        tables.markdown(["file", "correct", *(f"wrong in round {one}" for one in range(1, rounds + 1))], rows) + "\n"
    )


if __name__ == "__main__":
    main()
