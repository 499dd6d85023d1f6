"""A Hub for tests: enough of the Hub's protocol for the real client to create, push, list and pull repositories.

Everything is kept in memory. `refuse` makes requests fail: a function of (method, path) that gives a status or None.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

import yaml

TOKEN = "hf_test_token"
REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
RESOLVE = re.compile(r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repo:
    """A repository: its files at each commit, newest last."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit id and files of a revision; `main` is the newest."""
        if not self.commits:
            return ("0" * 40, {}) if revision == "main" else None
        sha = list(self.commits)[-1] if revision == "main" else revision
        return (sha, self.commits[sha]) if sha in self.commits else None


class Hub:
    """A running server; use as a context manager."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        self.refuse: Callable[[str, str], int | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.cards: list[dict] = []  # metadata that was validated

    def __enter__(self) -> "Hub":
        hub = self

        class Handler(_Handler):
            state = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: str, *, token: bool = True) -> dict[str, str]:
        """What a client process needs; to be set before huggingface_hub is imported."""
        client = {"HF_ENDPOINT": self.address, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        client |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_CACHE": f"{home}/datasets"}
        return client | ({"HF_TOKEN": TOKEN} if token else {"HF_TOKEN": ""})


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.state.requests.append((self.command, path))
        refused = self.state.refuse(self.command, path)
        if refused is not None:
            return self.send(refused, {"error": "the test server refuses"})
        if path == "/api/repos/create":
            return self.create()
        if path == "/api/validate-yaml":
            return self.validate()
        if path == "/api/whoami-v2":
            return self.send(200, {"name": "tester", "type": "user", "orgs": []})
        if path.startswith("/lfs/"):
            return self.large_file(path.rpartition("/")[2])
        if match := re.fullmatch(r"/(datasets/)?([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            return self.batch()
        if match := RESOLVE.fullmatch(path):
            return self.resolve("datasets" if match[1] else "models", *match.group(2, 3, 4))
        if match := re.fullmatch(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)(?:/(\w[\w-]*)/([^/]+)(/.*)?)?", path):
            return self.api(*match.group(1, 2), match[3] or "revision", match[4] or "main", (match[5] or "/")[1:])
        return self.send(404, {"error": f"unknown request {path}"})

    def validate(self) -> None:
        """The rules of the Hub for a card's metadata that a model's card here can break."""
        sent = json.loads(self.body)
        head = re.match(r"---\n(.*?)\n---\n", sent["content"], re.DOTALL)
        data = yaml.safe_load(head[1]) if head else {}
        errors = [f"{name} is no repository id" for name in ("datasets", "base_model")
                  for value in _listed(data.get(name)) if not REPO_ID.fullmatch(str(value))]  # fmt: skip
        if sent["repoType"] == "model":
            errors += [] if isinstance(data.get("license"), str) else ["license is missing"]
        for model in data.get("model-index", []):
            errors += [] if model.get("name") else ["model-index needs a name"]
            for result in model["results"]:
                places = [(result, "task", "type"), (result, "dataset", "type"), (result, "dataset", "name")]
                errors += [f"{part}.{key} is missing" for r, part, key in places if not r.get(part, {}).get(key)]
                errors += [
                    "a metric lacks type or value" for m in result["metrics"] if not {"type", "value"} <= set(m)
                ]
        self.state.cards.append(data)
        return self.send(400 if errors else 200, {"errors": [{"message": e} for e in errors], "warnings": []})

    def create(self) -> None:
        wanted = json.loads(self.body)
        kind = (wanted.get("type") or "model") + "s"
        name = f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
        url = f"{self.state.address}/{'datasets/' if kind == 'datasets' else ''}{name}"
        if not self.known():
            return self.send(401, {"error": "log in first"})
        if (kind, name) in self.state.repos:
            return self.send(409, {"url": url})
        self.state.repos[kind, name] = Repo(
            private=wanted.get("visibility") == "private" or bool(wanted.get("private"))
        )
        return self.send(200, {"url": url, "name": name})

    def api(self, kind: str, name: str, what: str, revision: str, inside: str) -> None:
        repo = self.repo(kind, name)
        if repo is None:
            return None
        if what == "preupload":
            files = [self.upload_mode(file) for file in json.loads(self.body)["files"]]
            return self.send(200, {"files": files})
        if what == "commit":
            url = f"{self.state.address}/{'datasets/' if kind == 'datasets' else ''}{name}"
            return self.commit(repo, url)
        found = repo.at(revision)
        if found is None:
            return self.send(404, {"error": "no such revision"}, code="RevisionNotFound")
        sha, files = found
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            return self.send(200, {"id": name, "sha": sha, "private": repo.private, "tags": [], "siblings": siblings,
                                   "modelId": name})  # fmt: skip
        return self.send(200, self.entries(files, what, unquote(inside)))

    def entries(self, files: dict[str, bytes], what: str, inside: str) -> list[dict]:
        """Files and folders: those asked for by path, or those in a folder (and below, if the request says so)."""
        folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
        entries = [{"type": "directory", "path": path, "oid": _sha1(path.encode())} for path in sorted(folders)]
        entries += [{"type": "file", "path": path, "size": len(content), "oid": _sha1(content)}
                    for path, content in files.items()]  # fmt: skip
        if what == "paths-info":
            wanted = self.wanted_paths()
            return [entry for entry in entries if entry["path"] in wanted]
        below = f"{inside}/" if inside else ""
        deep = "recursive=true" in self.path.lower()
        return [e for e in entries if e["path"].startswith(below) and (deep or "/" not in e["path"][len(below) :])]

    def wanted_paths(self) -> list[str]:
        if "json" in (self.headers.get("Content-Type") or ""):
            return json.loads(self.body)["paths"]
        return parse_qs(self.body.decode())["paths"]

    def upload_mode(self, file: dict) -> dict:
        large = file["path"].endswith((".safetensors", ".parquet", ".arrow", ".bin"))
        return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": None}

    def batch(self) -> None:
        objects = []
        for item in json.loads(self.body)["objects"]:
            href = f"{self.state.address}/lfs/{item['oid']}"
            objects.append({"oid": item["oid"], "size": item["size"]})
            if item["oid"] not in self.state.large:  # an object that is there needs no action
                objects[-1]["actions"] = {"upload": {"href": href}, "verify": {"href": href}}
        self.send(200, {"transfer": "basic", "objects": objects})

    def large_file(self, oid: str) -> None:
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != oid:
                return self.send(400, {"error": "sha256 differs"})
            self.state.large[oid] = self.body
        return self.send(200 if oid in self.state.large else 404, {})

    def commit(self, repo: Repo, url: str) -> None:
        if not self.known():
            return self.send(401, {"error": "log in first"})
        files = dict((repo.at("main") or ("", {}))[1])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.state.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
        sha = _sha1(self.body + str(len(repo.commits)).encode())
        repo.commits[sha] = files
        return self.send(200, {"commitOid": sha, "commitUrl": f"{url}/commit/{sha}"})

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repo = self.repo(kind, name)
        if repo is None:
            return None
        found = repo.at(revision)
        if found is None:
            return self.send(404, {"error": "no such revision"}, code="RevisionNotFound")
        sha, files = found
        if path not in files:
            return self.send(404, {"error": "no such file"}, code="EntryNotFound", sha=sha)
        return self.send(200, files[path], sha=sha)

    def repo(self, kind: str, name: str) -> Repo | None:
        repo = self.state.repos.get((kind, name))
        if repo is None or (repo.private and not self.known()):
            self.send(404 if repo is None and self.known() else 401, {"error": "not found"}, code="RepoNotFound")
            return None
        return repo

    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def send(self, status: int, content: dict | list | bytes, *, code: str = "", sha: str = "") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        if code:
            headers |= {"X-Error-Code": code, "X-Error-Message": code}
        if sha:
            headers |= {"X-Repo-Commit": sha, "ETag": f'"{_sha1(body)}"'}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
