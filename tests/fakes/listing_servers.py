"""Servers that speak the products' own listing APIs, with their paging, logins and refusals.

Each holds `images`, repository → tag → digest, and lists `page` entries at a time however many are asked for.
They answer as the products' documentation says; a test scripts what goes wrong.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote

from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer, Seen

Images = dict[str, dict[str, str]]


class ApiServer(FakeServer):
    """What they have in common. `hidden` repositories are shown to a login only."""

    def __init__(self, images: Images, page: int = 2) -> None:
        super().__init__()
        self.images, self.page = images, page
        self.hidden: set[str] = set()

    def visible(self, owner: str, logged_in: bool) -> list[str]:
        """The repositories of `owner` that the caller may see, in order."""
        return sorted(
            name
            for name in self.images
            if (not owner or name.startswith(f"{owner}/")) and (logged_in or name not in self.hidden)
        )

    def linked(self, request: Seen, entries: list[Any]) -> Answer:
        """One page of a plain list, with the way to the next in `Link`."""
        asked = dict(request.parameters)
        number = int(asked.get("page", "1"))
        rest = entries[(number - 1) * self.page :]
        headers = {}
        if len(rest) > self.page:
            kept = "&".join(f"{name}={value}" for name, value in request.parameters if name != "page")
            target = f"{self.link_base}{request.path}?page={number + 1}&{kept}"
            headers["Link"] = f'<{self.link_base}{request.path}?page=1>; rel="first", <{target}>; rel="next"'
        return reply(rest[: self.page], headers=headers)

    @property
    def link_base(self) -> str:
        """What stands before the path in links."""
        return self.url


def reply(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """A JSON answer."""
    return Answer(
        status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(document).encode()
    )


def missing() -> Answer:
    """404 as APIs say it."""
    return reply({"message": "Not Found"}, 404)


class HubApi(ApiServer):
    """hub.docker.com. `tokens` are those it gave and still takes."""

    def __init__(self, images: Images, page: int = 2, users: dict[str, str] | None = None) -> None:
        super().__init__(images, page)
        self.users = users or {}
        self.tokens: set[str] = set()

    def handle(self, request: Seen) -> Answer:
        """Logins, repositories of a namespace, tags of a repository."""
        if request.line == "POST /v2/auth/token":
            return self._login(json.loads(request.body))
        if request.authorization and request.authorization.removeprefix("Bearer ") not in self.tokens:
            return reply({"detail": "token expired"}, 401)
        parts = request.path.strip("/").split("/")[2:]
        logged_in = bool(request.authorization)
        if len(parts) == 1:
            names = self.visible(parts[0], logged_in)
            found = [{"namespace": parts[0], "name": name.partition("/")[2]} for name in names]
            return self._page(request, found) if names else missing()
        name = "/".join(parts[:2])
        if name not in self.visible("", logged_in):
            return missing()
        tags = [
            {"name": tag, "digest": digest, "images": [{"architecture": "amd64", "digest": "sha256:other"}]}
            for tag, digest in self.images[name].items()
        ]
        return self._page(request, tags)

    def _login(self, form: dict[str, str]) -> Answer:
        if self.users.get(form["identifier"]) != form["secret"]:
            return reply({"detail": "Incorrect authentication credentials"}, 401)
        token = f"SECRET-HUB-TOKEN-{len(self.tokens)}"
        self.tokens.add(token)
        return reply({"access_token": token})

    def _page(self, request: Seen, entries: list[Any]) -> Answer:
        number = int(dict(request.parameters).get("page", "1"))
        rest = entries[(number - 1) * self.page :]
        more = f"{self.url}{request.path}?page={number + 1}&page_size={self.page}"
        return reply(
            {
                "count": len(entries),
                "next": more if len(rest) > self.page else None,
                "previous": None,
                "results": rest[: self.page],
            }
        )


class HarborApi(ApiServer):
    """A Harbor: Basic logins, links without a host, names quoted twice."""

    def __init__(self, images: Images, page: int = 2, users: dict[str, str] | None = None) -> None:
        super().__init__(images, page)
        self.users = users or {}

    @property
    def link_base(self) -> str:
        """Harbor links by path."""
        return ""

    def handle(self, request: Seen) -> Answer:
        """Projects, repositories of a project, artifacts of a repository."""
        kind, _, encoded = request.authorization.partition(" ")
        user, _, password = base64.b64decode(encoded).decode().partition(":")
        logged_in = kind == "Basic" and self.users.get(user) == password
        if request.authorization and not logged_in:
            return reply({"errors": [{"code": "UNAUTHORIZED", "message": "unauthorized"}]}, 401)
        parts = request.path.removeprefix("/api/v2.0/").split("/")
        if parts == ["projects"]:
            names = sorted({name.partition("/")[0] for name in self.visible("", logged_in)})
            return self.linked(request, [{"name": name, "project_id": 7} for name in names])
        found = self.visible(parts[1], logged_in)
        if parts[2:] == ["repositories"]:
            if not found:
                return reply({"errors": [{"code": "FORBIDDEN", "message": "forbidden"}]}, 403)
            return self.linked(request, [{"name": name, "artifact_count": 1} for name in found])
        name = f"{parts[1]}/{unquote(unquote(parts[3]))}"
        if name not in found or "/" in unquote(parts[3]):
            return reply({"errors": [{"code": "NOT_FOUND", "message": "repository not found"}]}, 404)
        artifacts: dict[str, list[dict[str, str]] | None] = {}
        for tag, digest in self.images[name].items():
            artifacts.setdefault(digest, [])
            listed = artifacts[digest]
            if tag and listed is not None:
                listed.append({"name": tag})
            else:
                artifacts[digest] = None
        return self.linked(request, [{"digest": one, "tags": tags} for one, tags in artifacts.items()])


class QuayApi(ApiServer):
    """A Quay: cursors for repositories, numbered pages for tags, OAuth tokens."""

    token = "SECRET-OAUTH"

    def handle(self, request: Seen) -> Answer:
        """Repositories of a namespace, tags of a repository."""
        asked = dict(request.parameters)
        if request.authorization not in {"", f"Bearer {self.token}"}:
            return reply({"message": "Invalid bearer token format"}, 401)
        logged_in = bool(request.authorization)
        if request.path == "/api/v1/repository":
            names = self.visible(asked["namespace"], logged_in)
            start = int(asked.get("next_page", "at+0/").strip("at+/"))
            page = [
                {"namespace": asked["namespace"], "name": name.partition("/")[2], "is_public": True}
                for name in names[start : start + self.page]
            ]
            more = {"next_page": f"at+{start + self.page}/"} if names[start + self.page :] else {}
            return reply({"repositories": page, **more})
        name = request.path.removeprefix("/api/v1/repository/").removesuffix("/tag/")
        if name not in self.visible("", logged_in):
            return missing()
        number = int(asked["page"])
        entries = [
            {"name": tag, "manifest_digest": digest, "reversion": False}
            for tag, digest in self.images[name].items()
        ][(number - 1) * self.page :]
        more_tags = len(entries) > self.page
        return reply({"tags": entries[: self.page], "page": number, "has_additional": more_tags})


class GitHubApi(ApiServer):
    """api.github.com: packages of organisations and people, for tokens only."""

    token = "SECRET-PAT"

    def __init__(self, images: Images, page: int = 2, people: set[str] | None = None) -> None:
        super().__init__(images, page)
        self.people = people or set()

    def handle(self, request: Seen) -> Answer:
        """Packages of an owner, versions of a package."""
        if request.authorization != f"Bearer {self.token}":
            return reply({"message": "Requires authentication"}, 401)
        kind, owner, *rest = request.path.strip("/").split("/")
        names = self.visible(owner, True)
        if kind != ("users" if owner in self.people else "orgs") or not names:
            return missing()
        if rest == ["packages"]:
            packages = [
                {"id": number, "name": name.partition("/")[2], "package_type": "container"}
                for number, name in enumerate(names)
            ]
            return self.linked(request, packages)
        name = f"{owner}/{unquote(rest[2])}"
        if name not in names or rest[3] != "versions":
            return missing()
        by_digest: dict[str, list[str]] = {}
        for tag, digest in self.images[name].items():
            by_digest.setdefault(digest, []).extend([tag] if tag else [])
        versions = [
            {"id": number, "name": digest, "metadata": {"container": {"tags": tags}}}
            for number, (digest, tags) in enumerate(by_digest.items())
        ]
        return self.linked(request, versions)


class GitLabApi(ApiServer):
    """gitlab.com: `projects` maps a project's path to the paths of its registry repositories."""

    token = "SECRET-PAT"

    def __init__(self, projects: dict[str, list[str]], page: int = 2) -> None:
        super().__init__({}, page)
        self.projects = projects

    def handle(self, request: Seen) -> Answer:
        """Registry repositories of a group or a project."""
        if request.authorization not in {"", f"Bearer {self.token}"}:
            return reply({"message": "401 Unauthorized"}, 401)
        _, _, kind, name, *rest = request.path.strip("/").split("/")
        path = unquote(name)
        if rest != ["registry", "repositories"]:
            return missing()
        if kind == "projects":
            found = self.projects.get(path)
        else:
            below = [paths for project, paths in self.projects.items() if project.startswith(f"{path}/")]
            found = [one for paths in below for one in paths] if below else None
        if found is None:
            return reply({"message": f"404 {kind.rstrip('s').title()} Not Found"}, 404)
        return self.linked(
            request, [{"id": number, "path": one, "name": ""} for number, one in enumerate(found)]
        )


class GoogleRegistry(FakeRegistry):
    """A registry whose `tags/list` also tells manifests and children."""

    def __init__(self, images: Images, page_of: int = 10_000) -> None:
        super().__init__()
        self.images, self.page_of = images, page_of

    def handle(self, request: Seen) -> Answer:
        """`tags/list` as Google answers it; a level that only has children is there too."""
        if not request.path.endswith("/tags/list"):
            return super().handle(request)
        name = request.path.removeprefix("/v2/").removesuffix("/tags/list")
        below = [one.removeprefix(f"{name}/") for one in self.images if one.startswith(f"{name}/")]
        if name not in self.images and not below:
            return reply({"errors": [{"code": "NAME_UNKNOWN", "message": "unknown"}]}, 404)
        tags = list(self.images.get(name, {}).items())
        start = int(dict(request.parameters).get("pageToken", "0"))
        manifests: dict[str, dict[str, Any]] = {}
        for tag, digest in tags[start : start + self.page_of]:
            entry = manifests.setdefault(digest, {"tag": [], "mediaType": "x/y", "imageSizeBytes": "7"})
            entry["tag"] += [tag] if tag else []
        headers = {}
        if tags[start + self.page_of :]:
            target = f"/v2/{name}/tags/list?n=5&pageToken={start + self.page_of}"
            headers["Link"] = f'<{target}>; rel="next"'
        return reply(
            {
                "child": sorted({one.partition("/")[0] for one in below}),
                "manifest": manifests,
                "name": name,
                "tags": [tag for tag, _ in tags[start : start + self.page_of] if tag],
            },
            headers=headers,
        )
