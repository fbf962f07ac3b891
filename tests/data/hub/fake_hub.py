"""A hub on loopback, with faults: what the real client asks of data sets, and no more."""

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

import yaml

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".parquet", ".zst", ".gz")  # whose hash is SHA-256, as of files in LFS


@dataclass
class FakeRepo:
    """A data set: its files by path, and its card."""

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    gated: bool = False


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request: a status, `hang` or `cut`."""

    kind: int | str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FakeHub:
    """Repositories by name. Each request for a file's content meets the next of `faults`, each
    other one the next of `api_faults`, as long as there are any."""

    repos: dict[str, FakeRepo] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    api_faults: deque[Fault] = field(default_factory=deque)
    requests: list[str] = field(default_factory=list)  # methods, paths and ranges
    closing: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""

    def start(self) -> ThreadingHTTPServer:
        """Listens on a port of the system's choice."""
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def fetched(self) -> list[str]:
        """The requests for the content of files."""
        return [line for line in self.requests if line.startswith("GET") and "/resolve/" in line]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/.*)?", path):
            self._api(match[1], match[2] or "")
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3])
        else:
            self._refuse(404)

    def _api(self, name: str, rest: str) -> None:
        if self.hub.api_faults and self._broken(self.hub.api_faults.popleft()):
            return
        if (repo := self.hub.repos.get(name)) is None:
            self._refuse(404, {"X-Error-Code": "RepoNotFound"})
        elif rest == "/auth-check":
            code = {"X-Error-Code": "GatedRepo"}
            self._refuse(403, code) if repo.gated else self._json({})
        elif rest == "/refs":
            refs = [{"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}]
            self._json({"branches": refs, "converts": [], "tags": []})
        elif (revision := _after(rest, "revision")) and revision not in ("main", COMMIT):
            self._refuse(404, {"X-Error-Code": "RevisionNotFound"})
        elif (inside := _after(rest, f"tree/{COMMIT}")) is not None:
            found = _tree(repo, inside)
            self._json(found) if found else self._refuse(404, {"X-Error-Code": "EntryNotFound"})
        else:
            self._json(
                {
                    "id": name,
                    "sha": COMMIT,
                    "gated": "auto" if repo.gated else False,
                    "tags": [],
                    "cardData": yaml.safe_load(yaml.safe_dump(repo.card)),
                }
            )

    def _file(self, name: str, revision: str, path: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None or path not in repo.files or revision not in ("main", COMMIT):
            self._refuse(404, {"X-Error-Code": "EntryNotFound"})
            return
        fault = self.hub.faults.popleft() if self.hub.faults else None
        if fault and self._broken(fault):
            return
        content = repo.files[path]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        last = int(asked[2]) if asked and asked[2] else len(content) - 1
        part = content[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_sha(path, content)}"')
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.kind == "cut":
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
        else:
            self.wfile.write(part)

    def _broken(self, fault: Fault) -> bool:
        """Whether the fault has answered in the hub's stead."""
        if isinstance(fault.kind, int):
            self._refuse(fault.kind, fault.headers)
            return True
        if fault.kind == "hang":
            self.hub.closing.wait()
            self.close_connection = True
            return True
        return False

    def _refuse(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self._json({"error": str(status)}, status, headers)

    def _json(
        self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _after(rest: str, prefix: str) -> str | None:
    """What follows `/prefix`; None where `rest` does not begin with it."""
    if rest == f"/{prefix}":
        return ""
    return rest.removeprefix(f"/{prefix}/") if rest.startswith(f"/{prefix}/") else None


def _tree(repo: FakeRepo, inside: str) -> list[dict[str, Any]]:
    """Every file and folder below a folder."""
    found: dict[str, dict[str, Any]] = {}
    for path, content in repo.files.items():
        folders = path.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            name = "/".join(folders[:depth])
            found[name] = {"type": "directory", "path": name, "oid": COMMIT, "size": 0}
        entry = {"type": "file", "path": path, "size": len(content), "oid": _git_sha(content)}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": _sha(path, content), "size": len(content), "pointerSize": 130}
        found[path] = entry
    return [each for name, each in found.items() if not inside or name.startswith(f"{inside}/")]


def _sha(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else _git_sha(content)


def _git_sha(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
