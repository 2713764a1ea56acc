"""The servers of a run: which ones can be used, the weights that they must hold, and the turns that wait for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from src.engines.server.client import STARTED, AwayError, Client, ServerError
from src.engines.server.probing import TEMPERATURE, Version, request, told
from src.engines.server.settings import VLLMServer

logger = logging.getLogger(__name__)

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between attempts to reach a server; the last one repeats."""


@dataclass(frozen=True)
class Wanted:
    """The weights that every server must hold: the base, and adapters by name.

    ``adapters`` maps the name under which an adapter is loaded to its folder and its log-probs. ``probes`` are the
    prompts of the check; ``base`` are the base's log-probs at ``TEMPERATURE``.
    """

    probes: list[tuple[int, ...]]
    base: Version
    adapters: Mapping[str, tuple[str, Version]]
    context: int
    prefix: str  # of the names of this engine's adapters
    served: str  # the arguments of `vllm serve` that give these base weights


@dataclass(eq=False)
class Place:
    """One server. ``ready`` is set while it holds the wanted weights; ``base`` is its name of the base model."""

    client: Client
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    base: str = ""
    bringing: asyncio.Task[None] | None = None
    checked: bool = False  # whether its base weights were compared since it was last away


Job = Callable[[Place], Awaitable[None]]
"""One turn: asks the given server, and hands the result over. Raises ``ServerError``."""


class Pool:
    """Hands jobs to servers. All methods run in the event loop.

    A server that fails is left out until it answers again and holds the wanted weights; its jobs go to others.
    ``failed`` is called with the error that ends the run.
    """

    def __init__(self, settings: VLLMServer) -> None:
        self.settings = settings
        self.places = [Place(Client(settings, url)) for url in settings.urls]
        self.failed: Callable[[Exception], None] = lambda error: None
        self.wanted: Wanted | None = None
        self._error: Exception | None = None  # that of a server that cannot be used, since the last `want`
        self._jobs: asyncio.Queue[tuple[Job, int]] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._seen = time.monotonic()  # when a server was last ready

    async def want(self, wanted: Wanted) -> None:
        """Bring all servers to hold ``wanted``.

        Returns when one does, and all that were ready before have been asked: no turn begins while only some of them
        can take it, and none waits for a server that was away already.
        """
        self.wanted, self._seen, self._error = wanted, time.monotonic(), None
        tried = [place for place in self.places if place.ready.is_set()] or list(self.places)
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def asked(place: Place) -> None:
            if place in tried:
                tried.remove(place)
            if not tried and any(one.ready.is_set() for one in self.places) and not end.done():
                end.set_result(None)

        self.failed = lambda error: None if end.done() else end.set_exception(error)
        for place in self.places:
            if place.bringing is not None:
                place.bringing.cancel()
            place.ready.clear()
            place.bringing = asyncio.create_task(self._bring(place, asked))
        await end

    def open(self, failed: Callable[[Exception], None]) -> None:
        """Begin to take jobs; ``failed`` is called at most with errors that no other server can mend."""
        self._jobs, self.failed = asyncio.Queue(), failed
        if self._error is not None:
            failed(self._error)
        # Workers wait in this order, so that few jobs are spread over all servers.
        self._workers = [
            asyncio.create_task(self._work(place)) for _ in range(self.settings.at_once) for place in self.places
        ]

    def _fail(self, error: Exception) -> None:
        self._error = error
        self.failed(error)

    def add(self, job: Job) -> None:
        self._jobs.put_nowait((job, 1))

    async def shut(self) -> None:
        """Drop all jobs, also those on their way: the servers stop working on requests whose connection closes."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers = []

    def forget(self) -> None:
        """Unload this engine's adapters from the servers that are ready, after the event loop has ended."""
        for place in self.places:
            if self.wanted is not None and place.ready.is_set():
                place.client.forget(self.wanted.adapters)

    async def _work(self, place: Place) -> None:
        while True:
            await place.ready.wait()
            job, attempt = await self._jobs.get()
            if not place.ready.is_set():  # it went away while this worker waited
                self._jobs.put_nowait((job, attempt))
                continue
            try:
                await job(place)
            except AwayError as error:
                if attempt >= self.settings.tries:
                    self._fail(ServerError(f"{error}; a turn failed {attempt} times (engine.tries)"))
                    return
                self._lost(place, error)
                self._jobs.put_nowait((job, attempt + 1))
            except Exception as error:
                self._fail(error)
                return

    def _lost(self, place: Place, error: Exception) -> None:
        """Leave a server out, and begin to bring it back."""
        if not place.ready.is_set():
            return
        place.ready.clear()
        place.checked = False
        logger.warning("%s. Its turns wait, or go to other servers", error)
        self._seen = time.monotonic()
        place.bringing = asyncio.create_task(self._bring(place))

    async def _bring(self, place: Place, asked: Callable[[Place], None] = lambda place: None) -> None:
        """Bring a server to hold the wanted weights, however often that takes; ``asked`` is called after each try."""
        attempt = 0
        while True:
            try:
                await self._prepare(place)
                break
            except AwayError as error:
                if any(other.ready.is_set() for other in self.places):
                    self._seen = time.monotonic()
                elif time.monotonic() - self._seen > self.settings.patience:
                    self._fail(
                        AwayError(
                            f"engine.urls: no server has answered for {self.settings.patience:g} s (engine.patience). "
                            f"{error}"
                        )
                    )
                    return
            except Exception as error:
                self._fail(error)
                return
            asked(place)
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1
        place.ready.set()
        if attempt:
            logger.warning("%s is back", place.client.url)
        asked(place)

    async def _prepare(self, place: Place) -> None:
        """Load the wanted adapters into a server, unload this engine's others, and check all log-probs."""
        assert self.wanted is not None
        wanted, client = self.wanted, place.client
        models = await client.models()
        base = next((one for one in models if not one.get("parent")), None)
        if base is None:
            raise ServerError(f"{client.url} serves no base model; start it with {STARTED}")
        if (room := base.get("max_model_len") or wanted.context) < wanted.context:
            raise ServerError(
                f"{client.url}: its context of {room} tokens is shorter than model.context={wanted.context}; start it "
                f"with --max-model-len {wanted.context}"
            )
        place.base = str(base["id"])
        if not place.checked:
            await self._check(place, place.base, wanted.base, TEMPERATURE)
            place.checked = True
        loaded = {str(one["id"]) for one in models}
        for name in loaded - set(wanted.adapters):
            if name.startswith(wanted.prefix):
                await client.unload(name)
        for name, (folder, version) in wanted.adapters.items():
            if name not in loaded:
                await client.load(name, folder)
            await self._check(place, name, version, 1.0)

    async def _check(self, place: Place, name: str, version: Version, temperature: float) -> None:
        """Compare a server's next-token log-probs with those of ``version``.

        Raises:
            ServerError: they are of other weights.
        """
        assert self.wanted is not None
        client = place.client
        bodies = [request(chat, name, temperature) for chat in self.wanted.probes]
        try:
            tables = [told(choice) for choice in await asyncio.gather(*map(client.choice, bodies))]
        except ValueError as error:
            raise ServerError(f"{client.url}: {error}; start it with {STARTED}") from error
        if (fault := version.fault(tables)) is not None:
            raise ServerError(
                f"{client.url} does not serve the weights of this run: {fault}. They are those of {self.wanted.served}"
            )
