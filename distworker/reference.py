"""Image references: `[host/]repository[:tag][@digest]`, parsed once and from then on never text again.

Grammar and normalisation are those of distribution/reference: `alpine` is
`docker.io/library/alpine`, and upper case is allowed only in hosts and tags. URLs, scopes and store keys are
built from the parsed object, never from what a person typed. Messages never echo the input: it may hold a
password.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Final

from distworker.digest import Digest
from distworker.errors import InvalidReference, UnsupportedDigest

DEFAULT_HOST: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
#: Longest repository; distribution/reference limits the path alone, older clients host and path together.
REPOSITORY_MAX: Final = 255
#: No valid reference is longer: host 255, port 6, repository 255, tag 128, sha512 135, and their separators.
_TEXT_MAX: Final = 800

# Explicit ASCII classes and fullmatch: `$` also matches before a final newline, \w and \d take Unicode.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[([0-9A-Fa-f:]+)\])(?::([0-9]{{1,10}}))?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. `tag` is empty when none was written; with a digest, the digest decides what is
    fetched and the tag is information."""

    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that `text` spells, with Docker's short names written out.

        Raises:
            InvalidReference: not a reference; the message says which part and why, without repeating it.
            UnsupportedDigest: the digest's algorithm is not one we compute.
        """
        _check_text(text)
        name, at, digest = text.partition("@")
        host, remainder = _split_host(name)
        repository, colon, tag = remainder.partition(":")
        return cls(
            parse_host(host),
            parse_repository(_official(host, repository)),
            parse_tag(tag) if colon else "",
            _parse_digest(digest) if at else None,
        )

    @property
    def name(self) -> str:
        """`host/repository`."""
        return f"{self.host}/{self.repository}"

    @property
    def version(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag (may be empty)."""
        return str(self.digest) if self.digest is not None else self.tag

    def with_default_tag(self) -> Reference:
        """Tag `latest` when neither tag nor digest was written."""
        return self if self.version else replace(self, tag=DEFAULT_TAG)

    def with_tag(self, tag: str) -> Reference:
        """The same name and digest under another tag; an empty one takes the tag away."""
        return replace(self, tag=parse_tag(tag) if tag else "")

    def with_digest(self, digest: Digest | None) -> Reference:
        """The same name and tag, pinned to `digest`, or unpinned by None."""
        return replace(self, digest=digest)

    def cautions(self) -> tuple[str, ...]:
        """Sentences for a person about a reference that is valid but may not be what was meant."""
        found = []
        short = self.repository.removeprefix("library/")
        if (
            self.host == DEFAULT_HOST
            and self.tag.isdigit()
            and (short == "localhost" or "." in short)
            and "/" not in short
        ):
            found.append(
                f"{short}:{self.tag} was read as the Docker Hub image {short} with the tag {self.tag}; "
                f"for a registry at that address write {short}:{self.tag}/repository"
            )
        if len(self.name) > REPOSITORY_MAX:
            found.append(
                f"host and repository together exceed {REPOSITORY_MAX} characters; some registries refuse it"
            )
        return tuple(found)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"


def needs_configuring(host: str) -> bool:
    """Is `host` (of a parsed reference) a single label, such as `localhost` or `2130706433:80`?

    What such a name means depends on whose resolver is asked (search domains, numbers that are addresses), so
    a service goes there only when its operator named it.
    """
    return "." not in host and not host.startswith("[")


def parse_host(text: str) -> str:
    """The registry host `name[:port]` that `text` spells; `index.docker.io` is `docker.io`.

    Raises:
        InvalidReference: not a host, a port above 65535, or a single label such as `myhost`, which a
        reference
            could not name (it would be read as a Docker Hub repository).
    """
    match = _HOST.fullmatch(text) if isinstance(text, str) and len(text) <= _TEXT_MAX else None
    if match is None:
        raise InvalidReference(
            "not a registry host: expected a name or address and perhaps a port", field="host"
        )
    address, port = match.groups()
    if address is not None:
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            raise InvalidReference("the host in brackets is not an IPv6 address", field="host") from None
    if port is not None and not 0 < int(port) <= 65535:
        raise InvalidReference("the host's port is not between 1 and 65535", field="host")
    if not _is_host(text):
        raise InvalidReference("a host without a dot needs its port, for example myhost:443", field="host")
    return DEFAULT_HOST if text == "index.docker.io" else text


def parse_repository(text: str) -> str:
    """The repository name that `text` spells, as it stands in a URL after `/v2/`.

    Raises:
        InvalidReference: upper case, an empty part, a doubled separator, or longer than 255 characters.
    """
    if not isinstance(text, str) or not text:
        raise InvalidReference("the repository name is missing", field="repository")
    if len(text) > REPOSITORY_MAX:
        raise InvalidReference(
            f"the repository name is longer than {REPOSITORY_MAX} characters", field="repository"
        )
    if text.isascii() and text != text.lower():
        raise InvalidReference("the repository name must be lowercase", field="repository")
    if not _REPOSITORY.fullmatch(text):
        raise InvalidReference(
            "not a repository name: expected parts of a-z and 0-9, joined by '/', '.', '-', '_' or '__'",
            field="repository",
        )
    return text


def parse_tag(text: str) -> str:
    """The tag that `text` spells.

    Raises:
        InvalidReference: not 1 to 128 of A-Z a-z 0-9 _ . - with a letter, digit or _ first.
    """
    if not isinstance(text, str) or not _TAG.fullmatch(text):
        raise InvalidReference(
            "not a tag: expected 1 to 128 letters, digits, '_', '.' or '-', not starting with '.' or '-'",
            field="tag",
        )
    return text


def _parse_digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except UnsupportedDigest:
        pass
    # The digest's own sentence names the algorithm, which here is what a person typed after an @.
    raise UnsupportedDigest("the digest's algorithm is not supported; use sha256 or sha512", field="digest")


def _check_text(text: object) -> None:
    if not isinstance(text, str) or not text:
        raise InvalidReference("the image reference is empty")
    if len(text) > _TEXT_MAX:
        raise InvalidReference("the image reference is too long")
    if "://" in text:
        raise InvalidReference(
            "an image reference has no scheme: leave out everything up to and including ://"
        )
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReference("64 hex digits are an image id, not a name: write repository@sha256:… instead")


def _is_host(first: str) -> bool:
    return first == "localhost" or "." in first or ":" in first or first != first.lower()


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    return (first, rest) if slash and _is_host(first) else (DEFAULT_HOST, name)


def _official(host: str, repository: str) -> str:
    hub = host in (DEFAULT_HOST, "index.docker.io")
    return f"library/{repository}" if hub and repository and "/" not in repository else repository
