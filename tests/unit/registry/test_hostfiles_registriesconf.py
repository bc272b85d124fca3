"""registries.conf: which entry is for a name, where the name leads, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distworker.errors import ConfigInvalid
from distworker.registry.hostfiles.registriesconf import RegistriesConf
from distworker.registry.places import Route, Site, Spot

Read = Callable[..., RegistriesConf]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write the file and its drop-ins, and read them."""

    def make(text: str, **drop_ins: str) -> RegistriesConf:
        path = tmp_path / "registries.conf"
        path.write_text(text)
        folder = tmp_path / "registries.conf.d"
        folder.mkdir()
        for name, more in drop_ins.items():
            (folder / f"{name}.conf").write_text(more)
        (folder / "README").write_text("not a drop-in")
        return RegistriesConf.read(str(path))

    return make


def prefixes(*names: str) -> str:
    """Entries with these prefixes."""
    return "".join(f'[[registry]]\nprefix = "{name}"\nlocation = "x.example"\n' for name in names)


@pytest.mark.parametrize(
    ("host", "repository", "prefix"),
    [
        ("r.example", "team/app", "r.example/team"),
        ("r.example", "team", "r.example/team"),
        ("r.example", "team/app/deep/er", "r.example/team/app/deep"),
        ("r.example", "teams/app", "r.example"),
        ("r.example", "", "r.example"),
        ("r.example:5000", "team/app", "r.example:5000"),
        ("r.example:5001", "team/app", None),
        ("docker.io", "library/alpine", "docker.io/library"),
        ("a.w.example", "x", "*.w.example"),
        ("a.b.w.example", "x", "*.b.w.example"),
        ("b.w.example", "x", "b.w.example"),
        ("a.w.example", "sub/x", "*.w.example/sub"),
        ("a.w.example", "subs/x", "*.w.example"),
        ("w.example", "x", None),
        ("aw.example", "x", None),
        ("a.w.example:5000", "x", None),
        ("a.p.example:5000", "x", "*.p.example:5000"),
        ("other.example", "r.example/team", None),
    ],
)
def test_the_longest_prefix_of_whole_segments_counts(
    read: Read, host: str, repository: str, prefix: str | None
) -> None:
    """Neither half a segment nor another port nor the bare domain of a wildcard."""
    conf = read(
        prefixes(
            *("r.example", "r.example/team", "r.example/team/app/deep", "r.example:5000"),
            *(
                "registry-1.docker.io/library",
                "b.w.example",
                "*.w.example",
                "*.b.w.example",
                "*.w.example/sub",
            ),
            "*.p.example:5000",
        )
    )
    found = conf.find(host, repository)
    assert (found.prefix if found else None) == prefix


@pytest.mark.parametrize(
    ("prefix", "location", "name", "last"),
    [
        ("r.example", "m.example", "r.example/team/app", ("m.example", "team/app")),
        ("r.example/team", "m.example/x/y", "r.example/team/app", ("m.example", "x/y/app")),
        ("r.example/team", "m.example/x", "r.example/team", ("m.example", "x")),
        ("*.w.example", "m.example:5000/w", "a.w.example/app", ("m.example:5000", "w/app")),
        ("r.example", "index.docker.io/lib", "r.example/app", ("docker.io", "lib/app")),
        ("r.example", "r.example", "r.example/app", None),
        ("r.example/a", "r.example/b", "r.example/a/app", ("r.example", "b/app")),
        ("*.w.example", "", "a.w.example/app", None),
        ("", "r.example/a", "r.example/a/app", None),
    ],
)
def test_the_location_takes_the_place_of_the_prefix(
    read: Read, prefix: str, location: str, name: str, last: tuple[str, str] | None
) -> None:
    """What stands below the prefix is kept."""
    given = f'prefix = "{prefix}"\n' if prefix else ""
    given += f'location = "{location}"\n' if location else ""
    entry = read(f"[[registry]]\n{given}").find(*name.split("/", 1))
    assert entry is not None
    assert entry.route(name) == Route((), Spot(Site(last[0]), last[1]) if last else None)


def test_mirrors_keep_their_order_and_rules(read: Read) -> None:
    """`mirror-by-digest-only` is the older way to say it for all."""
    conf = read(
        '[[registry]]\nlocation = "a.example"\n'
        '[[registry.mirror]]\nlocation = "m.example/x"\npull-from-mirror = "tag-only"\n'
        '[[registry.mirror]]\nlocation = "n.example:80"\ninsecure = true\n'
        '[[registry]]\nlocation = "b.example"\nmirror-by-digest-only = true\n'
        '[[registry.mirror]]\nlocation = "m.example"\n'
    )
    first, second = conf.find("a.example", "app"), conf.find("b.example", "app")
    assert first is not None
    assert second is not None
    assert first.route("a.example/app").spots == (
        Spot(Site("m.example"), "x/app", tags=True, digests=False),
        Spot(Site("n.example:80", plain_http=True), "app"),
    )
    assert second.route("b.example/app").spots == (Spot(Site("m.example"), "app", tags=False),)


def test_plain_http_is_for_the_very_host_and_port(read: Read) -> None:
    """Of locations and mirrors that say so."""
    conf = read(
        '[[registry]]\nlocation = "a.example:80/team"\ninsecure = true\n'
        '[[registry]]\nprefix = "*.w.example"\nlocation = "l.example"\ninsecure = true\n'
        '[[registry]]\nlocation = "b.example"\n'
        '[[registry.mirror]]\nlocation = "m.example"\ninsecure = true\n'
    )
    hosts = ("a.example:80", "l.example", "m.example", "a.example", "b.example", "x.w.example")
    assert [host for host in hosts if conf.plain_http(host)] == ["a.example:80", "l.example", "m.example"]


def test_drop_ins_replace_entries_with_the_same_prefix(read: Read) -> None:
    """In the order of their names, and only files that end in .conf."""
    conf = read(
        prefixes("a.example", "b.example"),
        a10='[[registry]]\nprefix = "a.example"\nblocked = true\nlocation = "late.example"\n',
        a20='[[registry]]\nlocation = "a.example"\n',
        a30='[[registry]]\nlocation = "c.example"\n',
    )
    found = {host: conf.find(host) for host in ("a.example", "b.example", "c.example")}
    assert all(found.values())
    assert found["a.example"] is not None
    assert (found["a.example"].location, found["a.example"].blocked) == ("a.example", False)


def test_drop_ins_alone_are_enough_and_nothing_at_all_is_not(tmp_path: Path) -> None:
    """A distribution may ship only the folder; a path that leads nowhere is a mistake."""
    path = str(tmp_path / "registries.conf")
    with pytest.raises(ConfigInvalid, match="registries_conf: no such file"):
        RegistriesConf.read(path)
    (tmp_path / "registries.conf.d").mkdir()
    (tmp_path / "registries.conf.d/a.conf").write_text(prefixes("a.example"))
    assert RegistriesConf.read(path).find("a.example", "app") is not None
    assert not RegistriesConf.read("")


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("[[registry]]\nblocked = true", "location", "neither location nor prefix"),
        ('[[registry]]\nlocation = "https://a.example"', "location", "without a scheme"),
        ('[[registry]]\nlocation = "a.example/Team"', "location", "lowercase"),
        ('[[registry]]\nlocation = "*.a.example"', "location", "without a scheme"),
        ('[[registry]]\nprefix = "a.*.example"', "prefix", "without a scheme"),
        ('[[registry]]\nprefix = "me:SECRET@a.example"', "prefix", "without a scheme"),
        ('[[registry]]\nprefix = "*.a.example"\ninsecure = true', "insecure", "one host:port"),
        ('[[registry]]\nlocation = "a.example"\ninsecure = "yes"', "insecure", "true or false"),
        ('[[registry]]\nlocation = "a.example"\nmirror = ["m.example"]', "mirror", r"\[\[mirror\]\]"),
        ('[[registry]]\nlocation = "a.example"\n[[registry.mirror]]', "location", "a mirror needs one"),
        (
            '[[registry]]\nlocation = "a.example"\nmirror-by-digest-only = true\n'
            '[[registry.mirror]]\nlocation = "m.example"\npull-from-mirror = "all"',
            "pull-from-mirror",
            "keep one of the two",
        ),
        (
            '[[registry]]\nlocation = "a.example"\n'
            '[[registry.mirror]]\nlocation = "m.example"\npull-from-mirror = "never"',
            "pull-from-mirror",
            "all, digest-only, tag-only",
        ),
        ("registry = 5", "registry", "tables"),
        ('[registries.search]\nregistries = ["a.example"]', "registries", "version 1"),
    ],
)
def test_what_cannot_mean_what_it_says_names_file_key_and_remedy(
    read: Read, text: str, key: str, reason: str
) -> None:
    """Guessing would send requests elsewhere than an operator believes."""
    with pytest.raises(ConfigInvalid, match=rf"registries\.conf: .*{key}: .*{reason}") as caught:
        read(text)
    assert caught.value.fields["field"] == key
    assert "SECRET" not in caught.value.message


def test_broken_toml_names_file_and_line(read: Read) -> None:
    """Of a drop-in too."""
    with pytest.raises(ConfigInvalid, match=r"registries\.conf\.d/a\.conf: not valid TOML: .*line 2"):
        read("", a="[[registry]]\nlocation = a.example\n")


def test_a_location_that_leaves_no_name_is_an_error_of_the_file(read: Read) -> None:
    """`a.example/app` itself cannot become a bare host."""
    entry = read('[[registry]]\nprefix = "a.example/app"\nlocation = "m.example"\n').find("a.example", "app")
    assert entry is not None
    assert entry.route("a.example/app/x").last == Spot(Site("m.example"), "x")
    with pytest.raises(ConfigInvalid, match=r"leaves no repository name of a\.example/app"):
        entry.route("a.example/app")


def test_what_is_said_for_other_tools_is_left_alone(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    """Short names and helpers without a word, unknown keys with one."""
    conf = read(
        'unqualified-search-registries = ["evil.example"]\nshort-name-mode = "permissive"\n'
        'credential-helpers = ["secretservice"]\nnew-thing = 1\n'
        '[aliases]\n"app" = "evil.example/app"\n'
        '[[registry]]\nlocation = "a.example"\nnew-too = 2\n'
    )
    assert conf.find("docker.io", "library/app") is None
    told = [record.getMessage().split(": ")[1] for record in caplog.records]
    assert told == ["new-thing", "new-too"]


@pytest.mark.parametrize("key", ["blockd", "Blocked", "blocked_"])
def test_a_misspelt_block_is_not_left_alone(read: Read, key: str) -> None:
    """The registry would stay open that somebody meant to close."""
    with pytest.raises(ConfigInvalid, match=rf"{key}: unknown key; did you mean blocked\?"):
        read(f'[[registry]]\nprefix = "r.example"\n{key} = true\n')
