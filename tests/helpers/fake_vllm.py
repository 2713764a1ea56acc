"""A small HTTP server that answers as ``vllm serve`` does, with a tiny model and PEFT; it can misbehave on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers.local_server import LocalServer

COMPUTING = threading.Lock()
"""Also held to load models: two threads that do would leave transformers without weight tying for good."""


class FakeVLLM:
    """The server. ``answers`` maps a path to the (status, body) of its next answers, before honest ones.

    ``serves`` is called with the name in a request and gives the name whose weights are used: the default is honest.
    ``raw`` gives log-probs before temperature. ``requests`` holds the path, body and headers of all requests.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, port: int = 0, context: int = 128) -> None:
        self.folder, self.dtype = folder, dtype
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.adapters: dict[str, PeftModel] = {}
        self.requests: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = []
        self.answers: dict[str, list[tuple[int, str]]] = {}
        self.serves = lambda name: name
        self.raw = self.hangs = False
        self.context, self.port, self.key = context, port, ""
        self.spoil = lambda answer: answer
        self.start()

    def start(self) -> None:
        """Start, or start again on the same port as a new process would: without adapters."""
        self.adapters = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply({})

            def do_POST(self) -> None:
                self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def reply(self, body: dict) -> None:
                server.requests.append((self.path, body, dict(self.headers)))
                queued = server.answers.get(self.path)
                status, text = queued.pop(0) if queued else server.answer(self.path, body, self.headers)
                if status == 0 or server.hangs:  # the process dies
                    while server.hangs:
                        time.sleep(0.01)
                    self.close_connection = True
                    return
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.http = LocalServer(Handler, self.port)
        self.port = self.http.port

    def stop(self) -> None:
        """Stop as a killed process does: with all its connections."""
        self.http.stop()

    @property
    def url(self) -> str:
        return self.http.url

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.requests]

    def answer(self, path: str, body: dict, headers: Mapping[str, str]) -> tuple[int, str]:
        if self.key and headers.get("Authorization") != f"Bearer {self.key}":
            return 401, json.dumps({"error": "Unauthorized"})
        if path == "/health":
            return 200, ""
        if path == "/v1/models":
            base = {"id": "tiny", "parent": None, "max_model_len": self.context}
            return 200, json.dumps({"data": [base, *({"id": name, "parent": "tiny"} for name in self.adapters)]})
        if path == "/v1/load_lora_adapter":
            return self.load(body["lora_name"], body["lora_path"])
        if path == "/v1/unload_lora_adapter":
            if self.adapters.pop(body["lora_name"], None) is None:
                return 404, error("cannot be found")
            return 200, "Success"
        assert path == "/v1/completions"
        name = body["model"]
        if name != "tiny" and name not in self.adapters:
            return 404, error(f"The model `{name}` does not exist.")
        with COMPUTING:
            return self.complete(name, body)

    def load(self, name: str, folder: str) -> tuple[int, str]:
        if name in self.adapters:
            return 400, error("has already been loaded")
        if not Path(folder).is_dir():
            return 404, error(f"No adapter found for {folder}")
        with COMPUTING:
            base = AutoModelForCausalLM.from_pretrained(self.folder, dtype=self.dtype)
            self.adapters[name] = PeftModel.from_pretrained(base, folder).eval()
        return 200, "Success"

    @torch.inference_mode()
    def complete(self, name: str, body: dict) -> tuple[int, str]:
        assert (body["top_k"], body["min_p"], body["repetition_penalty"], body["ignore_eos"]) == (0, 0, 1, True)
        used = self.serves(name)
        model = self.model if used == "tiny" else self.adapters[used]
        numbers = torch.Generator().manual_seed(body["seed"])
        tokens, logprobs, tops, reason = [], [], [], "length"
        while reason == "length" and len(tokens) < body["max_tokens"]:
            logits = model(torch.tensor([[*body["prompt"], *tokens]])).logits[0, -1].double()
            scaled = (logits / (body["temperature"] or 1.0)).log_softmax(-1)
            token = (
                int(torch.multinomial(scaled.exp(), 1, generator=numbers)) if body["temperature"] else logits.argmax()
            )
            told = logits.log_softmax(-1) if self.raw else scaled
            best = [int(token), *told.topk(body["logprobs"]).indices.tolist()]
            tokens.append(int(token))
            logprobs.append(float(told[token]))
            tops.append({f"token_id:{one}": float(told[one]) for one in best})
            text = self.tokenizer.decode(tokens)
            if tokens[-1] in body.get("stop_token_ids", ()) or any(
                text.endswith(end) for end in body.get("stop") or ()
            ):
                reason = "stop"
        whole = [(tokens, logprobs, tops, reason)]
        if body.get("stream"):
            whole = [
                ([token], [logprob], [top], None) for token, logprob, top in zip(tokens, logprobs, tops, strict=True)
            ]
            whole[-1] = (*whole[-1][:3], reason)
        parts = [
            self.spoil(
                {
                    "model": name,
                    "choices": [
                        {
                            "token_ids": ids,
                            "finish_reason": end,
                            "logprobs": {"token_logprobs": numbers, "top_logprobs": tables},
                        }
                    ],
                }
            )
            for ids, numbers, tables, end in whole
        ]
        if body.get("stream"):
            return 200, "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
        return 200, json.dumps(parts[0])


def error(message: str) -> str:
    """The body of one of vLLM's error responses."""
    return json.dumps({"error": {"message": message, "type": "Error", "code": 0}})
