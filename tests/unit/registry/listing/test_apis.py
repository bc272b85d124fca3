"""Each product's listing API, spoken by a server of its kind: whole lists, in pages."""

from __future__ import annotations

import pytest

from distworker.digest import Digest
from distworker.errors import (
    ConfigInvalid,
    InvalidReference,
    InvalidRequest,
    RepositoryUnknown,
)
from tests.fakes.listing_servers import (
    ApiServer,
    GitHubApi,
    GitLabApi,
    GoogleRegistry,
)
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, FakeServer
from tests.fakes.world import World
from tests.unit.registry.conftest import fails
from tests.unit.registry.listing.conftest import Connect
from tests.unit.registry.listing.products import DIGESTS, IMAGES, PRODUCTS, WITH_DIGESTS


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
