"""Generation with running vLLM servers behind the engine protocol (``engine=vllm-server``)."""

from __future__ import annotations

import asyncio
import math
import queue
import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from src.engines.base import closed
from src.engines.server import probing
from src.engines.server.client import STARTED, AwayError, ServerError
from src.engines.server.pool import Job, Place, Pool, Wanted
from src.engines.server.settings import VLLMServer
from src.models.settings import ModelSettings
from src.types import Children, InputError, OnToken, Turn, Writer
from src.verifiers.tags import ANSWER_END

NO_LOGPROB = -9999.0
"""The number that vLLM's server sends in place of minus infinity."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Sampled:
    """What a server at ``url`` sampled for a turn. ``reason`` is ``stop`` or ``length``."""

    turn: Turn
    tokens: list[int]
    logprobs: list[float]
    reason: str
    url: str


Event = Sampled | tuple[Turn, int] | Exception
"""What the thread of the requests tells the caller's: a result, a token for live display, or the end of the run."""


class ServerEngine:
    """Generates with the servers at ``settings.urls``; a turn's children are asked for as soon as it is finished.

    If the weights have changed, a call to ``generate`` first loads the current LoRA adapter into every server under a
    new name, so that no server can use a stale one, and compares the server's log-probs with the policy's. Every turn
    has its own sampling seed: its tokens depend on no other turn and not on the server.

    Requests run in a thread of their own; ``children`` and ``on_token`` are called in the caller's.
    """

    def __init__(self, settings: VLLMServer, weights: Any, model: ModelSettings) -> None:
        self.settings, self.weights, self.model = settings, weights, model
        self._prefix = f"motif-{uuid.uuid4().hex[:12]}-"
        self._folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=settings.adapters)).absolute()
        self._folder.chmod(0o755)  # servers may run as another user
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="vllm-server", daemon=True).start()
        self._pool = self._do(_pool(settings))
        weakref.finalize(self, _close, self._loop, self._pool, self._folder)
        self._probes = probing.prompts(weights, model.context)
        with weights.model.disable_adapter():
            self._base = probing.next_tokens(weights, self._probes)
        self._before: torch.Tensor | None = None  # log-probs of the version before
        self._count, self._hash = 0, ""  # number of adapters written, and the hash of the weights that servers hold
        self._names: dict[Writer, str] = {}  # of the adapters that servers hold; the base may have none
        self._first = self._written("the adapter that the run started from", Writer.BASE) if weights.start else {}
        try:
            self._hand_over()
        except AwayError:
            raise
        except ServerError as error:
            raise InputError(f"engine=vllm-server: {error}") from error

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        self._hand_over()
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()

        def add(turn: Turn) -> None:
            self._loop.call_soon_threadsafe(self._pool.add, self._job(turn, events.put, on_token is not None))

        finished: list[Turn] = []
        self._loop.call_soon_threadsafe(self._pool.open, events.put)
        try:
            for turn in turns:
                add(turn)
            waiting = len(turns)
            while waiting:
                event = events.get()
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Sampled):
                    done = closed(event.turn, event.tokens, event.logprobs, event.reason, self.weights, event.url)
                    finished.append(done)
                    more = children(done)
                    for child in more:
                        add(child)
                    waiting += len(more) - 1
                elif on_token is not None:
                    on_token(*event)
        finally:
            self._do(self._pool.shut())  # an interrupted call must not leave requests for the next one
        return finished

    def _hand_over(self) -> None:
        """Have the servers load the current adapter, if the weights have changed since the last one."""
        weights = self.weights.trained_hash()
        if weights == self._hash:
            return
        adapters = {**self._first, **self._written("the policy", Writer.POLICY)}
        base = probing.Version(
            "the base weights",
            (self._base / probing.TEMPERATURE).log_softmax(-1),
            {"log-probs before temperature (start it with --logprobs-mode processed_logprobs)": self._base},
            self.weights.model.dtype,
        )
        wanted = Wanted(self._probes, base, adapters, self.model.context, self._prefix, self._served())
        self._do(self._pool.want(wanted))
        (name,) = adapters.keys() - self._first.keys()
        self._names = dict(zip((Writer.POLICY, Writer.BASE), (name, *self._first), strict=False))
        self._hash, self._before = weights, adapters[name][1].expected
        kept = {folder for folder, _ in adapters.values()}
        for folder in self._folder.iterdir():
            if str(folder) not in kept:
                shutil.rmtree(folder)

    def _written(self, what: str, writer: Writer) -> dict[str, tuple[str, probing.Version]]:
        """Write an adapter of ``writer`` under a new name; the name with its folder and its log-probs."""
        self._count += 1
        folder = self._folder / str(self._count)
        with self.weights.as_base() if writer == Writer.BASE else nullcontext():
            self.weights.write(folder)
            expected = probing.next_tokens(self.weights, self._probes)
        others = {"the base weights": self._base}
        if writer == Writer.POLICY and self._before is not None:
            others["the policy of an update before"] = self._before
        return {f"{self._prefix}{self._count}": (str(folder), probing.Version(what, expected, others, self._dtype))}

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.weights.model.dtype
        return dtype

    def _served(self) -> str:
        """The command that serves the base weights of this run."""
        name = self.weights.model.get_base_model().config._name_or_path
        revision = f" --revision {self.model.revision}" if self.model.revision else ""
        packed = " --quantization bitsandbytes" if self.model.quantization else ""
        return f"`vllm serve {name}{revision} --dtype {str(self._dtype).removeprefix('torch.')}{packed}`"

    def _job(self, turn: Turn, put: Callable[[Event], None], live: bool) -> Job:
        """The request for one turn, for whichever server takes it; ``live`` hands over tokens as they are sampled."""
        body = {**self._body(turn), "stream": live}
        shown = 0  # tokens already handed over; a second attempt samples the same ones again

        async def job(place: Place) -> None:
            nonlocal shown
            seen = 0

            def show(tokens: Sequence[int]) -> None:
                nonlocal seen, shown
                for token in tokens:
                    seen += 1
                    if seen > shown:
                        put((turn, token))
                        shown = seen

            asked = {"model": self._names.get(turn.writer, place.base), **body}
            client = place.client
            choice = await (client.streamed(asked, show) if live else client.choice(asked))
            put(_sampled(turn, choice, client.url))

        return job

    def _body(self, turn: Turn) -> dict[str, Any]:
        """The request for a turn, without the model. It names all settings whose defaults a server may have changed."""
        sampling = turn.sampling
        return {
            **probing.PLAIN,
            "prompt": list(turn.prompt),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": min(sampling.max_new_tokens, self.model.context - len(turn.prompt)),
            "seed": turn.stream % 2**63,
            "logprobs": 0,  # only the sampled token's log-prob
            "stop_token_ids": sorted(self.weights.end_tokens),
            "stop": [ANSWER_END] if sampling.stop_at_answer else None,
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the thread of the requests, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


async def _pool(settings: VLLMServer) -> Pool:
    return Pool(settings)  # in the event loop, which its connections belong to


def _sampled(turn: Turn, choice: Mapping[str, Any], url: str) -> Sampled:
    """The tokens and log-probs of a server's choice.

    Raises:
        AwayError: the server gave the turn up.
        ServerError: the choice is malformed.
    """
    reason, tokens = choice.get("finish_reason"), choice.get("token_ids")
    if reason not in ("stop", "length"):
        raise AwayError(f"{url} did not finish turn {turn.path} of tree {turn.tree}: finish_reason={reason}")
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(logprobs, list) or len(tokens) != len(logprobs) or not tokens:
        found = f"{len(tokens or ())} token ids and {len(logprobs or ())} log-probs"
        raise ServerError(
            f"{url}: its answer for turn {turn.path} of tree {turn.tree} has {found}, expected as many of both and at "
            f"least one; use a version of vLLM that knows return_token_ids, started with {STARTED}"
        )
    numbers = [math.nan if one is None or one <= NO_LOGPROB else float(one) for one in logprobs]
    return Sampled(turn, tokens, numbers, reason, url)


def _close(loop: asyncio.AbstractEventLoop, pool: Pool, folder: Path) -> None:
    """Stop the thread of the requests, and remove the adapters from the servers and from the disk."""
    loop.call_soon_threadsafe(loop.stop)
    pool.forget()
    shutil.rmtree(folder, ignore_errors=True)
