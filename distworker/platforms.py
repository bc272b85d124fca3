"""Platforms: operating system, CPU architecture and variant of an image, and when one matches another.

Spelled as `os/architecture[/variant]`, with a Windows build in brackets after the OS:
`windows(10.0.17763)/amd64`. The matching rules are those of moby's puller, so that the same
words choose the same image. `unknown/unknown` marks BuildKit attestations and is not a platform anyone runs.
"""

from __future__ import annotations

import platform as _host
import re
from dataclasses import dataclass, replace

from distworker.errors import InvalidRequest

_PART = r"[A-Za-z0-9_.-]{1,64}"
_GRAMMAR = re.compile(rf"({_PART})(?:\(({_PART})\))?/({_PART})(?:/({_PART}))?", re.ASCII)

#: Other spellings of an architecture → (architecture, variant); a variant written by the user wins.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
}
#: (architecture, variant) → the variant it means; `v8` is what arm64 always is, `v7` what a bare arm is.
_VARIANTS = {
    ("arm64", "8"): "",
    ("arm64", "v8"): "",
    ("arm", ""): "v7",
    ("arm", "5"): "v5",
    ("arm", "6"): "v6",
    ("arm", "7"): "v7",
    ("arm", "8"): "v8",
    ("amd64", "v1"): "",
}


@dataclass(frozen=True, slots=True)
class Platform:
    """One platform as written; `normalise` gives the spelling in which two can be compared."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform that `text` spells, normalised.

        Raises:
            InvalidRequest: not `os/architecture[/variant]`.
        """
        match = _GRAMMAR.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidRequest(
                "not a platform: write os/architecture, for example linux/arm64", field="platform"
            )
        os, version, architecture, variant = match.groups(default="")
        return cls(os, architecture, variant, version).normalise()

    @classmethod
    def host(cls) -> Platform:
        """The platform of images that run here: Linux ones on a Mac too, because containers run in a VM
        there."""
        os = "windows" if _host.system() == "Windows" else "linux"
        return cls(os, _host.machine() or "amd64").normalise()

    def normalise(self) -> Platform:
        """The same platform in its one comparable spelling (`linux/x86_64` → `linux/amd64`)."""
        os = self.os.lower()
        architecture = self.architecture.lower()
        variant = self.variant.lower()
        architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
        variant = variant or implied
        return replace(
            self,
            os="darwin" if os == "macos" else os,
            architecture=architecture,
            variant=_VARIANTS.get((architecture, variant), variant),
        )

    def matches(self, wanted: Platform) -> bool:
        """Is this one what `wanted` asks for? OS, architecture and variant are equal; a wanted OS version
        must be this one's or a prefix of it at a dot (a Windows build), and is ignored when empty."""
        mine, other = self.normalise(), wanted.normalise()
        same = (mine.os, mine.architecture, mine.variant) == (other.os, other.architecture, other.variant)
        return same and (not other.os_version or f"{mine.os_version}.".startswith(f"{other.os_version}."))

    @property
    def is_unknown(self) -> bool:
        """`unknown/unknown`: not an image but something about one, such as an attestation."""
        return self.os == "unknown" and self.architecture == "unknown"

    def __str__(self) -> str:
        os = f"{self.os}({self.os_version})" if self.os_version else self.os
        return "/".join(part for part in (os, self.architecture, self.variant) if part)
