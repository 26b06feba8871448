"""A Hugging Face Hub on the loopback interface: lists repositories and serves their files, or refuses to.

It speaks what `huggingface_hub` asks of it: model info, HEAD and (ranged) GET of files, error codes in
headers. Commits are made up from the content, so that a change makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+?)(/revision/(?P<revision>[^/?]+))?(\?.*)?")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?]+)(\?.*)?")


@dataclass
class FakeRepository:
    files: dict[str, bytes]
    tokens: tuple[str, ...] = ()  # that may read the files; none: everybody may
    tags: tuple[str, ...] = ()  # revisions beside main and the commit itself
    cut: dict[str, list[int]] = field(default_factory=dict)  # bytes after which each next GET breaks off
    status: dict[str, int] = field(default_factory=dict)  # answer to a GET of a file, in place of its content

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass
class FakeHub:
    url: str
    repositories: dict[str, FakeRepository] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers

    def ranges(self, file: str) -> list[str | None]:
        """The Range header of every GET of a file, in order."""
        return [h.get("range") for m, path, h in self.requests if m == "GET" and path.endswith(f"/{file}")]


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = FakeHub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        """Tests read `FakeHub.requests`."""

    def _answer(self) -> None:
        hub: FakeHub = self.server.hub  # type: ignore[attr-defined]
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append((self.command, unquote(self.path), headers))
        match = INFO.fullmatch(self.path) or FILE.fullmatch(self.path)
        repo = hub.repositories.get(match["repo"]) if match else None
        if match is None or repo is None:
            # The Hub does not tell strangers which private repositories there are.
            return self._refuse(404 if "authorization" in headers else 401, "RepoNotFound")
        revision = unquote(match["revision"] or "main")
        if revision not in ("main", repo.commit, *repo.tags):
            return self._refuse(404, "RevisionNotFound")
        if match.re is INFO:
            siblings = [{"rfilename": name} for name in repo.files]
            info = {"id": match["repo"], "modelId": match["repo"], "sha": repo.commit, "siblings": siblings}
            return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if repo.tokens and token not in repo.tokens:
            return self._refuse(403 if token else 401, "GatedRepo")
        name = unquote(match["file"])
        if name not in repo.files:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": repo.commit})
        self._send_file(repo, name, headers.get("range"))

    def _send_file(self, repo: FakeRepository, name: str, byte_range: str | None) -> None:
        content = repo.files[name]
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if self.command == "GET" and name in repo.status:
            return self._refuse(repo.status[name], "Broken")
        status = 200
        if byte_range:
            start = int(byte_range.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        cut = repo.cut.get(name)
        self._send(status, content, headers, cut.pop(0) if self.command == "GET" and cut else None)

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
