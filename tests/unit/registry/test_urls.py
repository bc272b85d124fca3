"""Addresses sent by servers are joined to the letter or refused."""

from __future__ import annotations

import pytest

from distworker.errors import ProtocolError, RedirectRefused
from distworker.registry.profiles import HostProfile, endpoint, trusted_realms
from distworker.registry.urls import origin_of, resolve, with_query

BASE = "https://r.example/v2/a/b/blobs/uploads/"


@pytest.mark.parametrize(
    ("target", "url"),
    [
        (
            "/v2/a/b/blobs/uploads/1?_state=a%2Bb%3D%3D",
            "https://r.example/v2/a/b/blobs/uploads/1?_state=a%2Bb%3D%3D",
        ),
        ("https://s.example/up?sig=%7e%7E", "https://s.example/up?sig=%7e%7E"),
        ("r.example/v2/a/b/blobs/uploads/1", "https://r.example/v2/a/b/blobs/uploads/1"),
        ("r.example:8443/v2/x", "https://r.example:8443/v2/x"),
        ("//s.example/up", "https://s.example/up"),
        ("1?x#frag", "https://r.example/v2/a/b/blobs/uploads/1?x"),
        ("http://r.example/v2/up?a=%2F", "https://r.example/v2/up?a=%2F"),
    ],
)
def test_a_location_is_resolved_and_its_query_kept(target: str, url: str) -> None:
    """Absolute, path-only, without scheme, relative; a registry that forgot its TLS proxy stays on https."""
    assert resolve(BASE, target) == url


@pytest.mark.parametrize("target", ["http://s.example/up", "http://r.example:8080/up"])
def test_https_is_never_left(target: str) -> None:
    """Not for another host, not for another port."""
    with pytest.raises(RedirectRefused):
        resolve(BASE, target)


@pytest.mark.parametrize(
    "target",
    [
        "ftp://s.example/",
        "file:///etc/passwd",
        "https://u:p@s.example/",
        "//[",
        "https://[::1/v2/",
        "/a b",
        "/\r\nX: y",
        "",
        "/" + "x" * 20000,
    ],
)
def test_other_addresses_are_refused(target: str) -> None:
    """Other schemes, user names, half an IPv6 host, control characters and endless text."""
    with pytest.raises(ProtocolError):
        resolve(BASE, target)


def test_origins_fill_in_the_port() -> None:
    """Registries drop or add `:443`; upper case means nothing."""
    assert origin_of("https://R.example") == origin_of("https://r.example:443/x")
    assert origin_of("https://r.example") != origin_of("http://r.example:443")


def test_the_digest_is_appended() -> None:
    """With or without a query before."""
    assert with_query("https://r/u", "digest=d") == "https://r/u?digest=d"
    assert with_query("https://r/u?_state=x", "digest=d") == "https://r/u?_state=x&digest=d"


def test_docker_hub_is_a_name_with_another_endpoint() -> None:
    """Its token server is a built-in pair; nobody else's is."""
    hub = endpoint("docker.io", HostProfile())
    assert str(hub) == "https://registry-1.docker.io"
    assert origin_of("https://auth.docker.io") in trusted_realms(hub, HostProfile())
    other = endpoint("r.example", HostProfile(token_realms=("auth.example",)))
    assert trusted_realms(other, HostProfile(token_realms=("auth.example",))) == {
        other,
        origin_of("https://auth.example"),
    }
