"""LLM: a language model behind an OpenAI-compatible endpoint says whether an answer is right."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from src.types import Problem, Scorer
from src.verifiers.base import Verifier
from src.verifiers.sandbox import LONGEST_ANSWER
from src.verifiers.tags import ANSWER, ANSWER_END, BOXED, stated_answer
from src.verifiers.verdict_cache import VerdictCache

PLACES = ("{question}", "{gold}", "{answer}")
VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


class LLM(Verifier):
    """Asks ``model`` at ``url`` with ``prompt``; ``at_once`` requests are on their way at the same time.

    The model sees the stated answer only, as a JSON string, never the text around it. The last "yes" or "no" of its
    reply is the verdict. There is none if the endpoint does not reply within ``seconds``, ``tries`` times.
    """

    name: ClassVar[str] = "llm"
    needs_gold: ClassVar[bool] = True
    url: str = "http://localhost:8000/v1"
    model: str
    prompt: str
    key: str = "OPENAI_API_KEY"
    seconds: float = Field(60.0, gt=0)
    tries: int = Field(3, ge=1)
    parameters: Mapping[str, Any] = {}
    cache: str | None = None

    def check(self) -> Iterable[str]:
        if not self.url.startswith(("http://", "https://")):
            yield f"verifier.url={self.url!r} is not the address of an endpoint; use e.g. http://localhost:8000/v1"
        if missing := [place for place in PLACES[1:] if place not in self.prompt]:
            yield f"verifier.prompt does not contain {' and '.join(missing)}, which stand for what is judged"

    def scorer(self, own: Scorer) -> Scorer:
        cache = VerdictCache(self.cache)

        def score(problem: Problem, text: str) -> float:
            answer = stated_answer(text)
            if answer is None or len(answer) > LONGEST_ANSWER:
                return 0.0
            body = self._body(problem, answer)
            key = hashlib.sha256(json.dumps([self.url, body], sort_keys=True).encode()).hexdigest()
            verdict = cache.get(key)
            if verdict is None:
                verdict = said(self._reply(body))
                if not math.isnan(verdict):
                    cache.put(key, verdict)
            return verdict

        return score

    def trial(self, scorer: Scorer, problems: Sequence[Problem]) -> Iterable[str]:
        """Try the endpoint on one gold answer, so that no run starts without it."""
        for problem in problems[:1]:
            try:
                verdict = scorer(problem, f"{ANSWER}{BOXED}{problem.answer}}}{ANSWER_END}")
            except (OSError, ValueError) as error:
                yield f"verifier=llm: {self.model} at {self.url} does not reply: {error}"
                return
            if math.isnan(verdict):
                yield f"verifier=llm: {self.model} at {self.url} says neither yes nor no; change verifier.prompt"

    def _body(self, problem: Problem, answer: str) -> dict[str, Any]:
        """The request for one verdict."""
        values = (problem.question, problem.answer, json.dumps(answer, ensure_ascii=False))
        pattern = re.compile("|".join(map(re.escape, PLACES)))  # in one pass: no value is searched for places
        content = pattern.sub(lambda place: values[PLACES.index(place[0])], self.prompt)
        message = {"role": "user", "content": content}
        return {"model": self.model, "messages": [message], "temperature": 0, **self.parameters}

    def _reply(self, body: Mapping[str, Any]) -> str:
        """What the model replies.

        Raises:
            OSError: the endpoint refuses, or does not reply in time.
            ValueError: the reply is not what such endpoints send.
        """
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get(self.key, 'none')}"},
        )
        for attempt in range(1, self.tries + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.seconds) as response:
                    reply = json.load(response)
                return str(reply["choices"][0]["message"]["content"] or "")
            except urllib.error.HTTPError as error:
                if attempt == self.tries or error.code in (400, 401, 403, 404):  # which trying again does not change
                    raise OSError(f"HTTP {error.code} {error.reason}") from None
            except OSError:
                if attempt == self.tries:
                    raise
            except (KeyError, IndexError, TypeError) as error:
                raise ValueError(f"its reply has no message: {error!r}") from error
        raise AssertionError("unreachable")


def said(reply: str) -> float:
    """1 where the last verdict of a reply is yes, 0 where it is no, NaN where there is none."""
    found = VERDICT.findall(reply)
    return float(found[-1].lower() == "yes") if found else math.nan
