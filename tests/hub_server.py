"""A Hugging Face Hub on the loopback interface: lists repositories and serves their files, or refuses to.

It speaks what `huggingface_hub` asks of it: model info, HEAD and (ranged) GET of files, error codes in
headers. Commits are made up from the content, so that a change makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+?)(/revision/(?P<revision>[^/?]+))?(\?.*)?")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?]+)(\?.*)?")
WRITE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<what>preupload|commit)/main(\?.*)?")


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
    writers: tuple[str, ...] = ()  # tokens that may write
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

    def do_POST(self) -> None:
        """What an upload asks: a repository, how files are sent (in the commit itself), the commit."""
        hub: FakeHub = self.server.hub  # type: ignore[attr-defined]
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append((self.command, unquote(self.path), headers))
        body = self.rfile.read(int(headers.get("content-length", "0")))
        if headers.get("authorization", "").removeprefix("Bearer ") not in hub.writers:
            return self._refuse(401, "Unauthorized")
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            repo = f"{wanted['organization']}/{wanted['name']}"
            hub.repositories.setdefault(
                repo,
                FakeRepository(
                    {}, tokens=hub.writers * (wanted.get("private") or wanted.get("visibility") == "private")
                ),
            )
            return self._send_json({"url": f"{hub.url}/{repo}", "name": repo})
        if self.path == "/api/validate-yaml":
            return self._send_json({"errors": [], "warnings": []})
        match = WRITE.fullmatch(self.path)
        assert match is not None, self.path
        files = hub.repositories[match["repo"]].files
        if match["what"] == "preupload":
            asked = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]
            return self._send_json({"files": modes})
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = b64decode(entry["value"]["content"])
        commit = hub.repositories[match["repo"]].commit
        url = f"{hub.url}/{match['repo']}/commit/{commit}"
        self._send_json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

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
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
