"""Settings of ``engine=vllm-server``."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from src.engines.base import EngineSettings
from src.models.settings import ModelSettings
from src.settings import RunSettings

if TYPE_CHECKING:
    from src.engines.server.engine import ServerEngine


class VLLMServer(EngineSettings):
    """Generation by ``vllm serve`` at ``urls``; each turn goes to a server with a free place.

    ``adapters`` is a folder that this process and the servers see under the same path; ``None`` is a temporary folder
    of this machine. ``at_once`` is the number of requests on their way to one server. ``seconds`` is the time limit of
    a request, ``tries`` how often a turn is tried, and ``patience`` the number of seconds that all servers may be away.
    ``key`` names the environment variable with the servers' key.
    """

    urls: Sequence[str]
    adapters: str | None = None
    at_once: int = Field(256, ge=1)
    seconds: float = Field(600.0, gt=0)
    tries: int = Field(5, ge=1)
    patience: float = Field(600.0, ge=0)
    key: str = "VLLM_API_KEY"

    def check(self) -> Iterable[str]:
        if not self.urls:
            yield "engine.urls=[] names no server; use e.g. engine.urls=[http://localhost:8000]"
        for url in self.urls:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                yield f"engine.urls: {url!r} is not the address of a server; use e.g. http://localhost:8000"
            elif parts.username or parts.password:
                yield (
                    "engine.urls holds a password, which would be recorded with the run; put the key into the "
                    f"environment variable {self.key} (engine.key)"
                )
        if len({address(url) for url in self.urls}) < len(self.urls):
            yield "engine.urls names a server twice; name each one once"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.model is not None and run.model.lora is None:
            yield (
                "engine=vllm-server needs a LoRA adapter to update the servers' weights, but model.lora=null trains "
                "all weights; valid: engine=local"
            )
        if run.model is not None and run.model.dtype == "float64":
            yield "engine=vllm-server: vLLM does not support model.dtype=float64; valid: auto, bfloat16, float32"
        if self.adapters is not None and not Path(self.adapters).is_dir():
            yield f"engine.adapters={self.adapters}: no such folder; name one that the servers see under the same path"

    def build(self, weights: Any, model: ModelSettings) -> ServerEngine:
        from src.engines.server.engine import ServerEngine

        return ServerEngine(self, weights, model)


def address(url: str) -> str:
    """The address of a server without a final ``/`` and ``/v1``."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
