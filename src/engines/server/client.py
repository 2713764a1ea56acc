"""One vLLM server over HTTP: completions of token ids, and loading and unloading of adapters."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import httpx

from src.engines.server.settings import VLLMServer, address
from src.utils.services import UnavailableError

logger = logging.getLogger(__name__)

CONNECTING = 10.0
"""Seconds until a server must accept a connection."""

IDLE = 2.0
"""Seconds after which an idle connection is closed; vLLM's server closes it after 5, perhaps during a request."""

CONTROL = 120.0
"""Seconds for an answer to anything but a completion."""

ENDING = 5.0
"""Seconds that the end of a run waits for a server to unload an adapter."""

COMPLETIONS = "/v1/completions"

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses of a server that may answer if it is asked again."""

STARTED = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve <model> --enable-lora --logprobs-mode processed_logprobs"
"""The command that starts a server as this engine needs it."""


class ServerError(UnavailableError):
    """A server does not do what was asked; trying again would not help."""


class AwayError(ServerError):
    """A server does not answer, or answers that it cannot at the moment; it may come back."""


class LostError(AwayError):
    """A server does not know an adapter, as after a restart."""


class Client:
    """The API of the vLLM server at ``url``. All methods raise ``ServerError``; its message names the server."""

    def __init__(self, settings: VLLMServer, url: str) -> None:
        self.url, self.key, self._seconds = address(url), settings.key, settings.seconds
        secret = os.environ.get(settings.key)
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=self._headers,
            timeout=httpx.Timeout(settings.seconds, connect=CONNECTING, pool=None),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=IDLE),
        )

    async def models(self) -> list[Mapping[str, Any]]:
        """The base model and the loaded adapters, as the server describes them; the base model has no ``parent``."""
        try:
            found = _fields(await self._call("GET", "/v1/models"), self.url)
        except LostError as error:
            raise ServerError(f"{error}: no vLLM server. engine.urls takes e.g. http://localhost:8000") from None
        models = found.get("data")
        if not isinstance(models, list) or not all(isinstance(one, dict) and "id" in one for one in models):
            raise ServerError(f"{self.url}: its list of models (/v1/models) is malformed; start it with {STARTED}")
        return models

    async def load(self, name: str, folder: str) -> None:
        """Load the adapter in ``folder`` under ``name``."""
        try:
            await self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})
        except LostError as error:
            if "No adapter" in str(error):
                raise ServerError(
                    f"{error}. The server must see this folder under the same path; set engine.adapters"
                ) from None
            raise ServerError(f"{error}. The server does not load adapters; start it with {STARTED}") from None
        except AwayError as error:
            if await self.alive():  # it answers, so that it is this adapter that it cannot load
                raise ServerError(
                    f"{error}. If the adapter is too large for the server, raise its --max-lora-rank"
                ) from None
            raise

    async def unload(self, name: str) -> None:
        """Unload an adapter; one that is not there counts as unloaded."""
        try:
            await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})
        except LostError:
            return

    async def alive(self) -> bool:
        """Whether the server says that it can generate."""
        try:
            await self._call("GET", "/health")
        except AwayError:
            return False
        return True

    async def choice(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The only choice of a completion."""
        answer = _fields(await self._call("POST", COMPLETIONS, body), self.url)
        return _choice(answer, body["model"], self.url)

    async def streamed(self, body: Mapping[str, Any], show: Callable[[list[int]], None]) -> dict[str, Any]:
        """The only choice of a completion; ``show`` gets new token ids as they are sampled."""
        tokens: list[int] = []
        logprobs: list[float] = []
        whole: dict[str, Any] = {"finish_reason": None}
        async for data in self._events(body):
            if "choices" in data and not data["choices"]:
                continue  # the last event may hold counts only
            part = _choice(data, body["model"], self.url)
            new = part.get("token_ids") or []
            show(new)
            tokens += new
            logprobs += (part.get("logprobs") or {}).get("token_logprobs") or []
            whole["finish_reason"] = part.get("finish_reason") or whole["finish_reason"]
        return {**whole, "token_ids": tokens, "logprobs": {"token_logprobs": logprobs}}

    def forget(self, names: Iterable[str]) -> None:
        """Unload adapters at the end of a run, without the event loop. A server that does not answer keeps them."""
        try:
            for name in names:
                httpx.post(
                    f"{self.url}/v1/unload_lora_adapter",
                    json={"lora_name": name},
                    headers=self._headers,
                    timeout=ENDING,
                )
        except httpx.HTTPError as error:
            logger.info("%s keeps the adapters of this run: %s", self.url, _reason(error))

    async def _events(self, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The server-sent events of a streamed completion."""
        try:
            async with self._http.stream("POST", COMPLETIONS, json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    self._refuse(response)
                async for line in response.aiter_lines():
                    text = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or text == "[DONE]":
                        continue
                    event = _fields(text, self.url)
                    if "error" in event:
                        raise AwayError(f"{self.url}: {_message(text)}")
                    yield event
        except httpx.HTTPError as error:
            raise AwayError(f"{self.url} does not answer: {_reason(error)}") from error

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
        try:
            limit = httpx.Timeout(min(self._seconds, CONTROL), connect=CONNECTING, pool=None)
            timeout = httpx.USE_CLIENT_DEFAULT if path == COMPLETIONS else limit
            response = await self._http.request(method, path, json=body, timeout=timeout)
        except (httpx.HTTPError, asyncio.IncompleteReadError) as error:
            raise AwayError(f"{self.url} does not answer: {_reason(error)}") from error
        self._refuse(response)
        return response.text

    def _refuse(self, response: httpx.Response) -> None:
        """Raise the error that a response stands for, unless it is a success."""
        status, said = response.status_code, _message(response.text)
        where = f"{response.request.url}: HTTP {status} ({said})"
        if status == 404:
            raise LostError(where)
        if status in BUSY:
            raise AwayError(where)
        if status in (401, 403):
            raise ServerError(f"{where}. Put the server's key into the environment variable {self.key} (engine.key)")
        if status >= 300:
            raise ServerError(where)


def _choice(answer: Mapping[str, Any], model: str, url: str) -> dict[str, Any]:
    """The only choice of an answer, which must be from ``model``."""
    if answer.get("model") != model:
        raise ServerError(f"{url} answered with the model {answer.get('model')!r} in place of {model!r}")
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise ServerError(f"{url}: its answer has no choice; start it with {STARTED}")
    return choices[0]


def _fields(text: str, url: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ServerError(f"{url}: its answer is not JSON ({text[:80]!r}); start it with {STARTED}") from error
    if not isinstance(fields, dict):
        raise ServerError(f"{url}: its answer is not a JSON object ({text[:80]!r}); start it with {STARTED}")
    return fields


def _message(text: str) -> str:
    """The message in the body of an error response."""
    try:
        fields = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:200] or "no message"
    inner = fields.get("error", fields) if isinstance(fields, dict) else fields
    message = inner.get("message", inner.get("detail", inner)) if isinstance(inner, dict) else inner
    return " ".join(str(message).split())[:300]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}{f' ({error})' if str(error) else ''}"
