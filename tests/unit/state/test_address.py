"""URLs of Redis: what they may say, and what of them may be shown."""

from __future__ import annotations

import pytest

from distworker.state.address import Access, Address, is_redis, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address("redis", (("localhost", 6379),))),
        ("redis://h", Address("redis", (("h", 6379),))),
        ("redis://h:1/2", Address("redis", (("h", 1),), database=2)),
        ("rediss://u:p%2Fw@[::1]:1/", Address("rediss", (("::1", 1),), user="u", password="p/w")),
        ("redis://:p@w@h/1", Address("redis", (("h", 6379),), database=1, password="p@w")),
        ("unix:///run/redis.sock?db=3", Address("unix", path="/run/redis.sock", database=3)),
        ("redis+socket:///r.sock?virtual_host=3", Address("redis+socket", path="/r.sock", database=3)),
        (
            "sentinel://u:p@a:1,b,[::2]:3/4?master=prime",
            Address("sentinel", (("a", 1), ("b", 26379), ("::2", 3)), "", 4, "prime", "u", "p"),
        ),
        ("sentinels://a/0?master=m", Address("sentinels", (("a", 26379),), master="m")),
    ],
)
def test_a_url_is_taken_apart(url: str, address: Address) -> None:
    """Each scheme, with and without what may be left out."""
    assert parse_address(url) == address
    assert is_redis(url)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("amqp://h", "expected a URL such as redis://"),
        ("http://h", "expected a URL such as redis://"),
        ("rediss://h/0?ssl_cert_reqs=none", "certificates are always checked"),
        ("rediss://h/0?ssl_check_hostname=false", "certificates are always checked"),
        ("redis://h/0?socket_timeout=0", "takes no option"),
        ("sentinel://h/0?master=m&password=s3cret", "takes only master"),
        ("sentinel://a,b/0", "add \\?master=NAME"),
        ("sentinel://u:s3cret@a,u:s3cret@b/0?master=m", "stands once"),
        ("redis://a,b/0", "several servers"),
        ("redis://h:s3cret/0", "its port is no number"),
        ("redis://h:1/s3cret", "its database is no number"),
        ("redis://:s3/cret@h:1/0", "write / in a password as %2F"),
    ],
)
def test_what_is_wrong_with_a_url_is_one_sentence_that_quotes_none_of_it(url: str, sentence: str) -> None:
    """Any part of a URL may be a slip of the password."""
    with pytest.raises(ValueError, match=sentence) as seen:
        parse_address(url)
    assert "s3" not in str(seen.value).replace("sentinel", "")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://u:p@cache.example:6380/2", "cache.example:6380/2"),
        ("rediss://cache.example", "cache.example:6379/0"),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock"),
        ("sentinel://u:p@a,[::1]:7/2?master=prime", "a:26379,[::1]:7/2 (prime)"),
    ],
)
def test_only_the_place_of_a_url_is_shown(url: str, place: str) -> None:
    """Host, port, database, and who is the primary; no login, not even by accident."""
    address = parse_address(url)
    assert address.place == place
    assert "password" not in repr(address)
    assert "password" not in repr(Access(sentinel_password="x"))
