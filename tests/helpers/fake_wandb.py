"""A small HTTP server that takes in runs as W&B's server does; it can die, or fall silent, at any moment."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeWandb:
    """The server. ``requests`` holds the paths of all requests, or for GraphQL the names of the operations."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.silent = False
        self.connections: list[socket.socket] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server.connections.append(self.connection)

            def log_message(self, *arguments: object) -> None: ...

            def do_GET(self) -> None:
                self.reply({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.reply(json.loads(body) if self.path == "/graphql" else {})

            def do_PUT(self) -> None:
                self.do_POST()

            def reply(self, body: dict[str, Any]) -> None:
                named = re.match(r"\s*(?:query|mutation) (\w+)", body.get("query", ""))
                server.requests.append(named[1] if named else self.path)
                while server.silent:
                    time.sleep(0.05)
                data = json.dumps(server.answer(server.requests[-1], body.get("variables") or {})).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda request, address: None  # clients may leave before the answer
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.open = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def die(self) -> None:
        """Close all connections and refuse new ones."""
        if self.open:
            self.open = False
            self.http.shutdown()
            self.http.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed by the other side
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        if operation == "ServerFeaturesQuery":
            return {"data": {"serverInfo": {"features": []}}}
        if operation == "Viewer":
            viewer = {"id": "u", "entity": "me", "username": "me", "email": "me@example.com", "flags": "{}"}
            return {"data": {"viewer": {**viewer, "teams": {"edges": []}}}}
        if operation == "UpsertBucket":
            project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}}
            run = {"id": "r", "name": variables.get("name"), "displayName": variables.get("displayName")}
            rest = {"description": None, "config": None, "sweepName": None, "historyLineCount": 0, "project": project}
            return {"data": {"upsertBucket": {"bucket": {**run, **rest}, "inserted": True}}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
        if operation == "CreateArtifact":  # as if it were there already
            sequence = {"id": "s", "latestArtifact": None}
            return {
                "data": {
                    "createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}
                }
            }
        return {"data": {"project": None}} if not operation.startswith("/") else {}
