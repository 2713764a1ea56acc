"""A small HTTP server that takes in runs as W&B's server does; it can die, or fall silent, at any moment."""

from __future__ import annotations

import json
import re
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.helpers.local_server import LocalServer


class FakeWandb:
    """The server. ``requests`` holds the paths of all requests, or for GraphQL the names of the operations."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.silent = False
        server = self

        class Handler(BaseHTTPRequestHandler):
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

        self.http = LocalServer(Handler)
        self.url = self.http.url

    def die(self) -> None:
        """Close all connections and refuse new ones."""
        self.http.stop()

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
