"""Each product's listing API, spoken by a server of its kind: whole lists, in pages, with the right login."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distworker.digest import Digest
from distworker.errors import (
    AuthRequired,
    ConfigInvalid,
    Denied,
    DistworkerError,
    InvalidReference,
    InvalidRequest,
    LimitExceeded,
    NotARegistry,
    ProtocolError,
    RateLimited,
    RealmRefused,
    RedirectRefused,
    RepositoryUnknown,
    Throttled,
    Unauthorized,
    Unavailable,
)
from distworker.registry.waits import LIMIT_WAIT
from tests.fakes.listing_servers import (
    ApiServer,
    GitHubApi,
    GitLabApi,
    GoogleRegistry,
    HarborApi,
    HubApi,
    Images,
    QuayApi,
)
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer
from tests.fakes.world import World
from tests.unit.registry.conftest import fails
from tests.unit.registry.listing.conftest import Connect

DIGESTS = [Digest.of(bytes([number])) for number in range(9)]
IMAGES: Images = {
    "team/app": {f"v{number}": DIGESTS[number % 4] for number in range(7)},
    "team/apps/deep/er": {"latest": DIGESTS[4]},
    "team/zoo": {"1": DIGESTS[5], "2": DIGESTS[6], "3": DIGESTS[7]},
    "other/app": {"x": DIGESTS[8]},
}
USERS = {"me": "SECRET-PASSWORD"}


@dataclass(frozen=True)
class Product:
    """One product: the host in references, where its API is, and a server for it."""

    host: str
    api: str
    serve: Callable[[Images], FakeServer]
    login: tuple[str, str] | None = None
    said: dict[str, str] = field(default_factory=dict)
    registry: str = ""  #: where the registry itself is, when that is another server than the API

    def open(self, connect: Connect, images: Images | None = None, **said: str) -> tuple[object, FakeServer]:
        """A client and the API's server."""
        server = self.serve(IMAGES if images is None else images)
        servers = {self.api: server, **({self.registry: FakeRegistry()} if self.registry else {})}
        return connect(self.host, servers, self.login, **{**self.said, **said}).listing(), server


PRODUCTS = {
    "hub": Product(
        "docker.io", "hub.docker.com", lambda images: HubApi(images, users=USERS), ("me", USERS["me"])
    ),
    "harbor": Product(
        "other.example",
        "other.example",
        lambda images: HarborApi(images, users=USERS),
        ("me", USERS["me"]),
        {"provider": "harbor"},
    ),
    "quay": Product("quay.io", "quay.io", QuayApi, ("$oauthtoken", QuayApi.token)),
    "ghcr": Product("ghcr.io", "api.github.com", GitHubApi, ("me", GitHubApi.token)),
    "gitlab": Product(
        "registry.gitlab.com",
        "gitlab.com",
        lambda images: GitLabApi({"team/app": [name for name in images if name.startswith("team/")]}),
        ("me", GitLabApi.token),
    ),
    "google": Product("europe-docker.pkg.dev", "europe-docker.pkg.dev", GoogleRegistry),
}
WITH_DIGESTS = [name for name in PRODUCTS if name != "gitlab"]
#: Those whose API is not the registry's own protocol.
APIS = [name for name in PRODUCTS if name != "google"]


@pytest.mark.parametrize("name", PRODUCTS)
def test_repositories_below_a_prefix_are_listed_over_all_pages(connect: Connect, name: str) -> None:
    """Each once, other owners' left out."""
    listing, server = PRODUCTS[name].open(connect)
    assert sorted(listing.repositories("team")) == ["team/app", "team/apps/deep/er", "team/zoo"]
    assert len(server.seen) >= 2


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_prefix_is_whole_parts_of_a_name(connect: Connect, name: str) -> None:
    """`team/app` is not `team/apps`."""
    listing, _ = PRODUCTS[name].open(connect)
    assert list(listing.repositories("team/app")) == ["team/app"]


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_prefix_that_is_no_name_is_refused_unasked(connect: Connect, name: str) -> None:
    """It would end up in an address."""
    listing, server = PRODUCTS[name].open(connect)
    with pytest.raises(InvalidReference):
        list(listing.repositories("../x"))
    assert server.seen == []


@pytest.mark.parametrize("name", ["hub", "quay", "ghcr", "gitlab", "google"])
def test_an_api_that_lists_below_a_prefix_only_says_so(connect: Connect, name: str) -> None:
    """Nothing is asked."""
    listing, server = PRODUCTS[name].open(connect)
    with pytest.raises(InvalidRequest, match="begin the pattern with one") as caught:
        list(listing.repositories())
    assert caught.value.fields["field"] == "prefix"
    assert server.seen == []


@pytest.mark.parametrize("name", WITH_DIGESTS)
def test_all_digests_of_a_repository_come_in_pages(connect: Connect, name: str) -> None:
    """Tag to digest, complete."""
    listing, server = PRODUCTS[name].open(connect)
    assert listing.digests("team/app") == IMAGES["team/app"]
    assert all(isinstance(one, Digest) for one in listing.digests("team/zoo").values())
    if name != "hub":  # names have two parts there
        assert listing.digests("team/apps/deep/er") == {"latest": DIGESTS[4]}
    assert {one.method for one in server.seen} <= {"GET", "POST"}


def test_a_whole_repository_at_google_is_one_request(connect: Connect) -> None:
    """Ten thousand manifests in one answer."""
    listing, server = PRODUCTS["google"].open(connect)
    assert listing.digests("team/app") == IMAGES["team/app"]
    assert [(one.path, one.query) for one in server.seen] == [("/v2/team/app/tags/list", "n=10000")]


def test_google_pages_are_joined(connect: Connect, world: World) -> None:
    """A repository above one page comes by Link."""
    server = GoogleRegistry(IMAGES, page_of=3)
    listing = connect("gcr.io", {"gcr.io": server}).listing()
    assert listing.digests("team/app") == IMAGES["team/app"]
    assert len(server.seen) == 3


def test_google_needs_no_images_on_the_way_down(connect: Connect) -> None:
    """Levels that only have children are no repositories."""
    listing, server = PRODUCTS["google"].open(
        connect, {"p/a/b": {"": DIGESTS[0]}, "p/a/b/c": {"1": DIGESTS[1]}}
    )
    assert list(listing.repositories("p")) == ["p/a/b", "p/a/b/c"]
    assert [one.path for one in server.seen] == [
        f"/v2/{name}/tags/list" for name in ("p", "p/a", "p/a/b", "p/a/b/c")
    ]


def test_a_google_repository_deleted_meanwhile_is_left_out(connect: Connect) -> None:
    """The top one must be there."""
    listing, server = PRODUCTS["google"].open(connect)
    server.on("GET", "/team/app/", Answer(404, {}, b'{"errors": [{"code": "NAME_UNKNOWN"}]}'))
    assert list(listing.repositories("team")) == ["team/apps/deep/er", "team/zoo"]
    with fails(RepositoryUnknown, phase="list repositories"):
        list(listing.repositories("nowhere"))


def test_google_children_cannot_lead_up_or_aside(connect: Connect) -> None:
    """A child is one part of a name; names end at 255 characters, so every walk does."""
    listing, server = PRODUCTS["google"].open(connect)
    server.always("GET", "", Answer(200, {}, b'{"child": ["..", "a/b", "", "x", 7, "/"], "manifest": {}}'))
    assert list(listing.repositories("team")) == []
    assert {one.path for one in server.seen} == {
        f"/v2/team{'/x' * depth}/tags/list" for depth in range(1 + (255 - 4) // 2)
    }


def test_gitlab_has_no_digest_map(connect: Connect) -> None:
    """One request for each tag is no cheaper than HEAD."""
    listing, server = PRODUCTS["gitlab"].open(connect)
    assert listing.digests("team/app") is None
    assert server.seen == []


def test_a_gitlab_prefix_may_be_group_project_or_repository(connect: Connect) -> None:
    """Asked in this order, and the slash is quoted."""
    projects = {"team/app": ["team/app", "team/app/worker"], "team/sub/web": ["team/sub/web"]}
    server = GitLabApi(projects)
    listing = connect("registry.gitlab.com", {"gitlab.com": server}, ("me", server.token)).listing()
    assert sorted(listing.repositories("team")) == ["team/app", "team/app/worker", "team/sub/web"]
    assert list(listing.repositories("team/app")) == ["team/app", "team/app/worker"]
    server.seen.clear()
    assert list(listing.repositories("team/app/worker")) == ["team/app/worker"]
    assert [one.path.removeprefix("/api/v4/").partition("/registry")[0] for one in server.seen] == [
        "groups/team%2Fapp%2Fworker",
        "projects/team%2Fapp%2Fworker",
        "projects/team%2Fapp",
    ]
    with fails(RepositoryUnknown, phase="list repositories", repository="nobody/x"):
        list(listing.repositories("nobody/x"))


def test_a_github_owner_may_be_a_person(connect: Connect) -> None:
    """404 for the organisation, then the person of that name; packages may have slashes in their names."""
    server = GitHubApi(IMAGES, people={"team"})
    listing = connect("ghcr.io", {"api.github.com": server}, ("me", server.token)).listing()
    assert sorted(listing.repositories("team")) == ["team/app", "team/apps/deep/er", "team/zoo"]
    assert listing.digests("team/apps/deep/er") == {"latest": DIGESTS[4]}
    assert server.count("GET", "/users/team/packages/container/apps%2Fdeep%2Fer/versions") == 1
    with fails(RepositoryUnknown, repository="nobody"):
        list(listing.repositories("nobody"))


def test_a_github_list_that_breaks_off_is_no_sign_of_a_person(connect: Connect) -> None:
    """404 in the middle is an error and not a reason to begin again elsewhere."""
    listing, server = PRODUCTS["ghcr"].open(connect)
    server.on("GET", "page=2", Answer(404))
    with fails(RepositoryUnknown):
        list(listing.repositories("team"))
    assert server.count("GET", "/users/") == 0


def test_harbor_lists_every_project_it_shows(connect: Connect) -> None:
    """Without a prefix; names are quoted twice."""
    listing, server = PRODUCTS["harbor"].open(connect)
    assert sorted(listing.repositories()) == sorted(IMAGES)
    listing.digests("team/apps/deep/er")
    assert server.seen[-1].path == "/api/v2.0/projects/team/repositories/apps%252Fdeep%252Fer/artifacts"
    assert server.seen[-1].headers["X-Is-Resource-Name"] == "true"


@pytest.mark.parametrize("name", ["harbor", "ghcr"])
def test_manifests_without_tags_are_passed_over(connect: Connect, name: str) -> None:
    """A page of untagged ones is not the end."""
    untagged = Digest.of(b"untagged")
    images = {"team/app": {"": untagged, "v1": DIGESTS[1], "v2": DIGESTS[2], "v3": DIGESTS[3]}}
    server = PRODUCTS[name].serve(images)
    assert isinstance(server, ApiServer)
    server.page = 1
    listing = connect(
        PRODUCTS[name].host, {PRODUCTS[name].api: server}, PRODUCTS[name].login, **PRODUCTS[name].said
    )
    assert listing.listing().digests("team/app") == {f"v{n}": DIGESTS[n] for n in (1, 2, 3)}


@pytest.mark.parametrize("name", ["hub", "harbor", "quay", "gitlab", "google"])
def test_what_is_public_is_listed_without_a_login(connect: Connect, name: str) -> None:
    """No Authorization is sent."""
    product = PRODUCTS[name]
    server = product.serve(IMAGES)
    if isinstance(server, ApiServer):
        server.hidden = {"team/zoo"}
    listing = connect(product.host, {product.api: server}, None, **product.said).listing()
    found = sorted(listing.repositories("team"))
    assert found[:2] == ["team/app", "team/apps/deep/er"]
    assert {one.authorization for one in server.seen} == {""}


@pytest.mark.parametrize("name", ["hub", "harbor", "quay"])
def test_a_login_shows_what_is_hidden(connect: Connect, name: str) -> None:
    """It goes with each request."""
    product = PRODUCTS[name]
    listing, server = product.open(connect)
    assert isinstance(server, ApiServer)
    server.hidden = {"team/zoo"}
    assert "team/zoo" in list(listing.repositories("team"))
    assert all(one.authorization for one in server.seen if one.method == "GET")


@pytest.mark.parametrize("name", ["hub", "harbor", "quay", "gitlab"])
def test_a_token_of_the_registry_is_not_shown_to_an_api(connect: Connect, name: str) -> None:
    """It is worth nothing there, so the API is asked anonymously."""
    product = PRODUCTS[name]
    server = product.serve(IMAGES)
    client = connect(product.host, {product.api: server}, **product.said, identity="SECRET-IDENTITY")
    assert sorted(client.listing().repositories("team"))[0] == "team/app"
    assert {one.authorization for one in server.seen} == {""}


def test_github_lists_nothing_to_strangers(connect: Connect) -> None:
    """Said as what it is: a login is wanted."""
    listing = connect("ghcr.io", {"api.github.com": GitHubApi(IMAGES)}).listing()
    with fails(AuthRequired, registry="ghcr.io", phase="list repositories"):
        list(listing.repositories("team"))


def test_a_quay_robot_is_not_shown_to_the_api(connect: Connect) -> None:
    """Its password is good for the registry only, so the API is asked anonymously."""
    server = QuayApi(IMAGES)
    listing = connect("quay.io", {"quay.io": server}, ("team+robot", "SECRET-ROBOT")).listing()
    assert len(list(listing.repositories("team"))) == 3
    assert {one.authorization for one in server.seen} == {""}


@pytest.mark.parametrize("name", ["harbor", "quay", "ghcr", "gitlab"])
def test_a_refused_login_is_asked_once(connect: Connect, name: str) -> None:
    """The same secret again would be refused again."""
    product = PRODUCTS[name]
    server = product.serve(IMAGES)
    assert product.login is not None
    listing = connect(product.host, {product.api: server}, (product.login[0], "SECRET-WRONG"), **product.said)
    with fails(Unauthorized, status=401, registry=product.host):
        list(listing.listing().repositories("team"))
    assert len(server.seen) == 1


def test_the_hub_gives_a_token_for_the_login_and_it_is_kept(connect: Connect, world: World) -> None:
    """One login for many requests, until it is old."""
    listing, server = PRODUCTS["hub"].open(connect)
    list(listing.repositories("team"))
    listing.digests("team/app")
    assert server.count("POST", "/v2/auth/token") == 1
    world.clock.forward(301)
    listing.digests("team/app")
    assert server.count("POST", "/v2/auth/token") == 2
    assert {one.authorization for one in server.seen if one.method == "POST"} == {""}


def test_a_hub_token_that_is_no_longer_taken_is_made_anew_once(connect: Connect) -> None:
    """And then believed."""
    listing, server = PRODUCTS["hub"].open(connect)
    assert isinstance(server, HubApi)
    list(listing.repositories("team"))
    server.tokens.clear()
    assert listing.digests("team/zoo") == IMAGES["team/zoo"]
    assert server.count("POST", "/v2/auth/token") == 2
    server.always("GET", "", Answer(401))
    with fails(Unauthorized, status=401):
        listing.digests("team/zoo")
    assert server.count("POST", "/v2/auth/token") == 3


def test_a_wrong_hub_login_is_not_tried_again(connect: Connect) -> None:
    """Docker locks the account."""
    server = HubApi(IMAGES, users=USERS)
    listing = connect("docker.io", {"hub.docker.com": server}, ("me", "SECRET-WRONG")).listing()
    for _ in range(3):
        with fails(Unauthorized, registry="docker.io"):
            list(listing.repositories("team"))
    assert [one.line for one in server.seen] == ["POST /v2/auth/token"]


@pytest.mark.parametrize(
    "answer", [Answer(200, {}, b"<html>"), Answer(200, {}, b'{"access_token": "a b"}'), Answer(418)]
)
def test_a_hub_login_without_a_token_is_typed(connect: Connect, answer: Answer) -> None:
    """Not JSON, no header value, another status."""
    listing, server = PRODUCTS["hub"].open(connect)
    server.on("POST", "/v2/auth/token", answer)
    with fails(ProtocolError):
        list(listing.repositories("team"))


def test_a_hub_login_is_not_redirected(connect: Connect, world: World) -> None:
    """The password stays where it was sent."""
    listing, server = PRODUCTS["hub"].open(connect)
    server.on("POST", "/v2/auth/token", Answer(307, {"Location": "https://evil.example/v2/auth/token"}))
    with fails(RealmRefused):
        list(listing.repositories("team"))
    assert world.evil.seen == []


@pytest.mark.parametrize("name", APIS)
def test_a_redirect_of_an_api_takes_no_login_along(connect: Connect, world: World, name: str) -> None:
    """The other host is asked anonymously; `closed` of the world watches."""
    listing, server = PRODUCTS[name].open(connect)
    server.on("GET", "", Answer(302, {"Location": "https://evil.example/x"}))
    with fails(RepositoryUnknown):
        list(listing.repositories("team"))
    assert len(world.evil.seen) == 1


#: How each product says that the next page is elsewhere.
ASIDE = {
    "hub": Answer(200, {}, b'{"results": [{"name": "app"}], "next": "https://evil.example/v2/x"}'),
    "harbor": Answer(200, {"Link": '<https://evil.example/x>; rel="next"'}, b'[{"name": "team/app"}]'),
    "ghcr": Answer(200, {"Link": '<https://evil.example/x>; rel="next"'}, b'[{"name": "app", "id": 1}]'),
    "gitlab": Answer(200, {"Link": '<http://gitlab.com/x>; rel="next"'}, b'[{"path": "team/app"}]'),
    "google": Answer(200, {"Link": '<//evil.example/x>; rel="next"'}, b'{"manifest": {"sha256:x": {}}}'),
}


@pytest.mark.parametrize("name", ASIDE)
def test_the_next_page_of_an_api_is_never_elsewhere(connect: Connect, world: World, name: str) -> None:
    """Refused without a request."""
    listing, server = PRODUCTS[name].open(connect)
    server.on("GET", "", ASIDE[name])
    with fails(RedirectRefused, registry=PRODUCTS[name].host):
        list(listing.repositories("team"))
    assert world.evil.seen == []


#: Pages that go on for ever with the same entries.
ENDLESS = {
    "hub": (b'{"results": [{"name": "app"}], "next": "https://hub.docker.com/v2/x?page=%d"}', ""),
    "harbor": (b'[{"name": "team/app"}]', '</x?page=%d>; rel="next"'),
    "quay": (b'{"repositories": [{"namespace": "team", "name": "app"}], "next_page": "c%d"}', ""),
    "ghcr": (b'[{"name": "app", "id": 1}]', '</x?page=%d>; rel="next"'),
    "gitlab": (b'[{"path": "team/app"}]', '</x?page=%d>; rel="next"'),
    "google": (b'{"manifest": {"sha256:x": {}}}', '</x?page=%d>; rel="next"'),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_pages_of_an_api_that_bring_nothing_new_end(connect: Connect, name: str) -> None:
    """Typed, after the second."""
    listing, server = PRODUCTS[name].open(connect)
    body, link = ENDLESS[name]
    answers = [
        Answer(200, {"Link": link % n} if link else {}, body % n if b"%d" in body else body) for n in range(5)
    ]
    server.on("GET", "", *answers)
    with fails(ProtocolError, registry=PRODUCTS[name].host):
        list(listing.repositories("team"))
    assert sum(1 for one in server.seen if one.method == "GET") == 2


def test_quay_tags_that_never_end_do(connect: Connect) -> None:
    """`has_additional` for ever with the same tags."""
    listing, server = PRODUCTS["quay"].open(connect)
    body = b'{"tags": [{"name": "a", "manifest_digest": "x"}], "has_additional": true}'
    server.always("GET", "/tag/", Answer(200, {}, body))
    with fails(ProtocolError):
        listing.digests("team/app")
    assert len(server.seen) == 2


def test_a_quay_cursor_longer_than_any_address_is_typed(connect: Connect) -> None:
    """It would not fit into a request."""
    listing, server = PRODUCTS["quay"].open(connect)
    server.on("GET", "", Answer(200, {}, b'{"repositories": [], "next_page": "%s"}' % (b"x" * 20_000)))
    with fails(ProtocolError):
        list(listing.repositories("team"))


NONSENSE = [
    b"<html>",
    b'"x"',
    b"7",
    b"[" * 100_000,
    b'{"results": 7, "repositories": 7, "tags": 7, "child": 7}',
]


@pytest.mark.parametrize("body", NONSENSE, ids=["html", "text", "number", "deep", "no list"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_what_an_api_says_instead_of_a_list_is_typed(connect: Connect, name: str, body: bytes) -> None:
    """Never a parser's exception."""
    listing, server = PRODUCTS[name].open(connect)
    server.always("GET", "", Answer(200, {}, body))
    with fails(NotARegistry if body[:1] == b"<" else ProtocolError, registry=PRODUCTS[name].host):
        list(listing.repositories("team"))


STRANGE = b"""[null, 7, "x", [], {}, {"name": null, "path": null},
 {"name": "../x", "path": "../x", "id": true}, {"digest": "sha256:x", "tags": [{"name": "v"}, null, 7]},
 {"name": 7, "metadata": {"container": {"tags": 7}}}]"""


@pytest.mark.parametrize("name", PRODUCTS)
def test_entries_that_are_none_are_left_out(connect: Connect, name: str) -> None:
    """What is not a name, a tag or a digest cannot be used and breaks nothing."""
    listing, server = PRODUCTS[name].open(connect)
    lists = b'"results": %s, "repositories": %s, "tags": %s, "child": %s'
    whole = b"{" + lists + b', "manifest": {"x": {"tag": [7, "v", "/"]}}}'
    plain = name in ("harbor", "ghcr", "gitlab")
    server.always("GET", "", Answer(200, {}, STRANGE if plain else whole % ((STRANGE,) * 4)))
    assert [one for one in listing.repositories("team") if one.startswith("team/.")] == []
    assert not listing.digests("team/app")


@pytest.mark.parametrize("limit", ["PAGES_MAX", "TAGS_MAX", "PAGE_BODY_MAX"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_limits_hold_for_every_api(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str, limit: str
) -> None:
    """Pages, entries and the size of a page are bounded."""
    monkeypatch.setattr(f"distworker.limits.{limit}", 1)
    listing, _ = PRODUCTS[name].open(connect)
    with fails(LimitExceeded, registry=PRODUCTS[name].host):
        list(listing.repositories("team"))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(403, {}, b'{"message": "forbidden"}'), Denied),
        (Answer(404, {}, b'{"message": "Not Found"}'), RepositoryUnknown),
        (Answer(429, {"Retry-After": "3600"}), Throttled),
        (Answer(503), Unavailable),
        (Answer(400), ProtocolError),
    ],
)
@pytest.mark.parametrize("name", APIS)
def test_refusals_of_an_api_are_typed(
    connect: Connect, name: str, answer: Answer, kind: type[ProtocolError]
) -> None:
    """By status, with the registry's name as it stands in references."""
    listing, server = PRODUCTS[name].open(connect)
    server.always("GET", "", answer)
    with fails(kind, registry=PRODUCTS[name].host, phase="list repositories", status=answer.status):
        list(listing.repositories("team"))


@pytest.mark.parametrize("reset", ["", "soon", str(int(time.time()) + 1800)])
def test_a_spent_budget_of_github_is_a_limit_and_no_denial(connect: Connect, reset: str) -> None:
    """It says 403, and by a Unix time when to come again."""
    listing, server = PRODUCTS["ghcr"].open(connect)
    headers = {"X-RateLimit-Remaining": "0", **({"X-RateLimit-Reset": reset} if reset else {})}
    server.on("GET", "", Answer(403, headers, b'{"message": "API rate limit exceeded"}'))
    with fails(RateLimited, status=403) as caught:
        list(listing.repositories("team"))
    delay = caught[0].delay
    assert delay is not None
    assert (1000 < delay <= 1800) if reset.isdigit() else delay == LIMIT_WAIT


#: Whatever JSON, with the words that the APIs look for.
WORDS = ["results", "next", "name", "digest", "repositories", "next_page", "tags", "child", "manifest", "tag"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["a", "/x", *DIGESTS[:1]]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, "metadata", "path"]), inner)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("name", PRODUCTS)
def test_any_page_of_an_api_ends_in_a_value_or_a_typed_error(
    connect: Connect, world: World, name: str
) -> None:
    """Whatever JSON and Link it sends."""
    listing, server = PRODUCTS[name].open(connect)
    answers: list[Answer] = []
    own = server.handle
    server.handle = lambda request: (  # type: ignore[method-assign]
        own(request) if request.method == "POST" else answers.pop() if answers else Answer(200, {}, b"[]")
    )

    @settings(max_examples=25, deadline=None)
    @given(JSON, st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40))
    def any_page(document: object, link: str) -> None:
        headers = {"Link": f'<{link}>; rel="next"'} if link.strip() else {}
        for ask in (lambda: list(listing.repositories("a")), lambda: listing.digests("a/b")):
            answers[:] = [Answer(200, headers, json.dumps(document).encode())]
            with contextlib.suppress(DistworkerError):
                ask()

    any_page()
    assert world.evil.seen == []


def test_tags_come_from_the_registry_whatever_the_api(connect: Connect) -> None:
    """Listing tags is the one thing that the specification has."""
    for name in ("hub", "ghcr", "gitlab"):
        product = PRODUCTS[name]
        registry = FakeRegistry()
        registry.put_manifest("team/app", b"{}", "x/y", "v1")
        home = "registry-1.docker.io" if name == "hub" else product.host
        client = connect(product.host, {home: registry}, None, **product.said)
        assert list(client.listing().tags("team/app")) == ["v1"]
    for name in ("harbor", "quay", "google"):
        product = PRODUCTS[name]
        client = connect(product.host, {product.api: FakeRegistry()}, None, **product.said)
        with fails(RepositoryUnknown, phase="list tags"):
            list(client.listing().tags("team/app"))


def test_the_api_of_another_gitlab_is_where_the_operator_says(connect: Connect) -> None:
    """And gets the login there; without that word it is looked for at the registry's own host."""
    server = GitLabApi({"team/app": ["team/app"]})
    registry = FakeServer()
    client = connect(
        "other.example",
        {"api.example": server, "other.example": registry},
        ("me", server.token),
        provider="gitlab",
        api_host="api.example",
    )
    assert list(client.listing().repositories("team")) == ["team/app"]
    assert server.seen[0].authorization == f"Bearer {server.token}"
    assert registry.seen == []


def test_ecr_as_the_list_of_another_host_is_a_mistake_of_the_operator(connect: Connect) -> None:
    """Account and region stand in the name."""
    listing = connect("other.example", {}, list_api="ecr").listing()
    with pytest.raises(ConfigInvalid, match="list_api"):
        list(listing.repositories())
