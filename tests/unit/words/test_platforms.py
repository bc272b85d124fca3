"""Platforms: one spelling, and the matching rules of the moby puller."""

from __future__ import annotations

import contextlib
import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker.errors import InvalidRequest
from distworker.platforms import Platform


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/armel/v5", "linux/arm/v5"),
        ("macos/arm64", "darwin/arm64"),
        ("windows(10.0.17763.1)/amd64", "windows(10.0.17763.1)/amd64"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_a_platform_has_one_spelling(text: str, normal: str) -> None:
    """Whatever the habit of the writer, comparing is equality."""
    assert str(Platform.parse(text)) == normal


@pytest.mark.parametrize(
    "text",
    ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux /amd64", "linux/amd64\n", "línux/amd64", None],
)
def test_what_is_not_a_platform_is_refused_and_the_field_named(text: str) -> None:
    """The face can point at the option that is wrong."""
    with pytest.raises(InvalidRequest) as caught:
        Platform.parse(text)
    assert caught.value.fields["field"] == "platform"


@pytest.mark.parametrize(
    ("available", "wanted", "match"),
    [
        (Platform("linux", "arm64", "v8"), Platform("linux", "arm64"), True),
        (Platform("linux", "arm64"), Platform("linux", "aarch64", "8"), True),
        (Platform("linux", "arm", "v7"), Platform("linux", "arm"), True),
        (Platform("linux", "arm", "v6"), Platform("linux", "arm"), False),
        (Platform("linux", "amd64"), Platform("linux", "arm64"), False),
        (Platform("windows", "amd64"), Platform("linux", "amd64"), False),
        (Platform("linux", "amd64", "v2"), Platform("linux", "amd64"), False),
        (Platform("windows", "amd64", "", "10.0.17763.5"), Platform("windows", "amd64"), True),
        (
            Platform("windows", "amd64", "", "10.0.17763.5"),
            Platform("windows", "amd64", "", "10.0.17763"),
            True,
        ),
        (Platform("windows", "amd64", "", "10.0.177"), Platform("windows", "amd64", "", "10.0.17"), False),
        (Platform("unknown", "unknown"), Platform("linux", "amd64"), False),
    ],
)
def test_platforms_match_by_their_normal_form(available: Platform, wanted: Platform, match: bool) -> None:
    """OS, architecture and variant are equal; a wanted Windows build is a prefix."""
    assert available.matches(wanted) is match


def test_attestations_are_not_a_platform() -> None:
    """unknown/unknown marks something about an image."""
    assert Platform("unknown", "unknown").is_unknown
    assert not Platform("linux", "amd64").is_unknown


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("Linux", "x86_64", "linux/amd64"),
        ("Linux", "armv7l", "linux/arm/v7"),
        ("Darwin", "arm64", "linux/arm64"),
        ("Windows", "AMD64", "windows/amd64"),
    ],
)
def test_the_host_platform_is_the_one_its_containers_run(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, expected: str
) -> None:
    """A Mac runs Linux images."""
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert str(Platform.host()) == expected


part = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)


@given(part, part, st.one_of(st.just(""), part), st.one_of(st.just(""), part))
def test_a_normal_platform_survives_being_written_and_read(
    os: str, arch: str, variant: str, version: str
) -> None:
    """parse(str(x)) == x for every normalised platform, and normalising twice changes nothing."""
    normal = Platform(os, arch, variant, version).normalise()
    assert normal.normalise() == normal
    assert Platform.parse(str(normal)) == normal


@given(st.text())
def test_no_text_raises_anything_but_the_typed_error(text: str) -> None:
    """Parsing is total over text."""
    with contextlib.suppress(InvalidRequest):
        Platform.parse(text)
