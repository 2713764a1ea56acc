"""Train drafts for pass@k and their aggregations for pass@1 (ParaGator, facebookresearch/RAM, March 2026)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from src.credit.base import Advantages, Credited
from src.credit.siblings import Siblings
from src.settings import RunSettings
from src.types import Rollout, Scores


class Paragator(Siblings):
    """As ``Siblings``, but with ``value="oracle"`` a draft is worth the chance that a set of k drafts with it is right.

    A set is right if one of its drafts is: it is what an oracle would make of the set. Of N drafts of which w are
    wrong, pass@k is mu = 1 - C(w, k) / C(N, k), and without scaling

        A(right) = 1 - mu        A(wrong) = 1 - mu - C(w - 1, k - 1) / C(N - 1, k - 1)

    since mu is also the mean of these values. This is the credit of ``Siblings`` if every set of k drafts is
    aggregated, once and by an oracle. ``value="aggregated"`` is ``Siblings`` itself: what the policy made of the sets.
    """

    value: Literal["oracle", "aggregated"] = "oracle"
    k: int | None = Field(None, ge=1)
    verdicts: str = "immediate"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        yield from super().check_run(run)
        if self.value == "aggregated":
            return
        if self.absent:
            yield (
                "credit.absent=true compares what prompts made of drafts, but credit.value=oracle does not read "
                "prompts; use credit.value=aggregated, or credit.absent=false"
            )
        reward, rounds = run.reward, run.rounds
        if reward is not None:
            term = reward.terms.get(self.verdicts)
            if term is None or term.at != "turns":
                yield (
                    f"credit.verdicts={self.verdicts} must be a term of the reward that scores every draft on its own; "
                    "valid: "
                    + (", ".join(name for name, one in reward.terms.items() if one.at == "turns") or "none of these")
                    + " (credit=paragator adds the term immediate with weight 0)"
                )
            if reward.normalise == "before":
                yield (
                    "reward.normalise=before normalises the terms of drafts, but credit.value=oracle replaces their "
                    "values; use reward.normalise=after"
                )
        if rounds is not None and self.k is not None and rounds.widths and self.k > rounds.widths[0]:
            yield (
                f"credit.k={self.k} drafts cannot be drawn from rounds.responses={rounds.widths[0]}; lower the first "
                "or raise the second"
            )

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        if self.value == "oracle":
            scores = [self._revalued(rollout, score) for rollout, score in zip(rollouts, scores, strict=True)]
        return super().rows(rollouts, scores, advantages)

    def _revalued(self, rollout: Rollout, scores: Scores) -> Scores:
        """The scores with the value of each draft replaced; what a draft earns by itself (e.g. its format) stays."""
        drafts = [turn for turn in scores.valued(rollout) if turn.round == 1]
        right = [scores.terms[self.verdicts][draft.path] >= 1 for draft in drafts]
        read = max((len(turn.quoted) for turn in rollout.turns if turn.round > 1), default=1)
        values = {
            draft.path: value + scores.own.get(draft.path, 0.0)
            for draft, value in zip(drafts, pass_at_k_values(right, self.k or read), strict=True)
        }
        return replace(scores, values={**scores.values, **values})


def pass_at_k_values(right: Sequence[bool], k: int) -> list[float]:
    """Of each draft: the chance that a set of ``k`` drafts that contains it has a right one.

    The other drafts of the set are drawn without replacement; a set holds at most all drafts.
    """
    count, wrong = len(right), sum(not one for one in right)
    size = min(k, count)
    return [1.0 if one else 1 - math.comb(wrong - 1, size - 1) / math.comb(count - 1, size - 1) for one in right]
