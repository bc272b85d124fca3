"""The YAML of `migrate`: what a right file becomes, and what is said about a wrong one."""

from pathlib import Path

import pytest

from distworker.cli import jobfile

HEX = "a" * 64


def read(tmp_path: Path, text: str | bytes) -> jobfile.JobFile:
    path = tmp_path / "images.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return jobfile.read(path)


def faults(tmp_path: Path, text: str | bytes) -> list[str]:
    found = read(tmp_path, text)
    return [fault.message.replace(f"{tmp_path}/", "") for fault in found.faults]


def test_a_right_file_becomes_the_fields_of_a_request(tmp_path: Path) -> None:
    """Pairs, platforms for all and for one, all tags and priority arrive as a sender would write them."""
    found = read(
        tmp_path,
        f"""
version: 1
priority: 7
platforms: [linux/amd64]
pairs:
  - source: alpine:3.20
    destination: registry.example.com/mirror/alpine:3.20
  - source: quay.example.com/team/app
    destination: registry.example.com/team/app
    all_tags: true
    platforms: [linux/amd64, linux/arm64]
  - source: quay.example.com/team/base@sha256:{HEX}
    destination: registry.example.com/team/base:pinned
""",
    )

    assert found.faults == []
    assert found.fields == {
        "kind": "migrate",
        "priority": 7,
        "platforms": ["linux/amd64"],
        "pairs": [
            {"source": "alpine:3.20", "destination": "registry.example.com/mirror/alpine:3.20"},
            {
                "source": "quay.example.com/team/app",
                "destination": "registry.example.com/team/app",
                "all_tags": True,
                "platforms": ["linux/amd64", "linux/arm64"],
            },
            {
                "source": f"quay.example.com/team/base@sha256:{HEX}",
                "destination": "registry.example.com/team/base:pinned",
            },
        ],
    }


PAIR = "pairs:\n  - source: alpine:1\n    destination: r.example/a:1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PAIR, "images.yaml, version: missing; begin the file with `version: 1`"),
        ("version: 2\n" + PAIR, "images.yaml, line 1, version: must be 1; this release knows no other"),
        ("version: yes\n" + PAIR, "images.yaml, line 1, version: must be 1; this release knows no other"),
        ("version: 1\n", "images.yaml, pairs: must be a list"),
        ("version: 1\npairs: []\n", "images.yaml, line 2, pairs: must be a list"),
        ("version: 1\npairs: [3]\n", "images.yaml, line 2, pairs[0]: must have `source:` and `destination:`"),
        (
            "version: 1\nplatform: [linux/amd64]\n" + PAIR,
            "line 2, platform: unknown key; did you mean platforms?",
        ),
        (
            "version: 1\n" + PAIR + "    destinaton: x\n",
            "line 5, pairs[0].destinaton: unknown key; did you mean dest",
        ),
        ("version: 1\n" + PAIR + "    zzz: x\n", "line 5, pairs[0].zzz: unknown key; known here are source,"),
        (
            "version: 1\n" + PAIR + "    source: b\n",
            "line 5, pairs[0].source: is there twice, first on line 3",
        ),
        (
            "version: 1\n" + PAIR + "    all_tags: maybe\n",
            "line 5, pairs[0].all_tags: expected true or false",
        ),
        (
            "version: 1\n" + PAIR + "    platforms: linux/amd64\n",
            "line 5, pairs[0].platforms: expected a list",
        ),
        ("version: 1\n" + PAIR + "    platforms: [linux]\n", "line 5, pairs[0].platforms[0]: "),
        (
            "version: 1\npriority: 11\n" + PAIR,
            "line 2, priority: expected a number from 0 (last) to 9 (first)",
        ),
        ("version: 1\nplatforms: [nope]\n" + PAIR, "line 2, platforms[0]: "),
        (
            "version: 1\npairs:\n  - destination: r.example/a\n",
            "line 3, pairs[0].source: missing: expected a ref",
        ),
        (
            "version: 1\npairs:\n  - source: [a]\n    destination: r.example/a:1\n",
            "line 3, pairs[0].source: expec",
        ),
        (
            "version: 1\npairs:\n  - source: a/UPPER\n    destination: r.example/a:1\n",
            "line 3, pairs[0].source: ",
        ),
        (
            "version: 1\n" + PAIR + "    all_tags: true\n",
            "line 3, pairs[0].source: all_tags takes a repository",
        ),
        ("", "images.yaml: begin it with `version: 1` and `pairs:`"),
        ("- a\n- b\n", "images.yaml: begin it with `version: 1` and `pairs:`"),
        ("version: 1\npairs:\n - a: b: c\n", "images.yaml, line 3: not valid YAML (mapping values"),
        (b"\xff\xfe\x00", "images.yaml: not UTF-8 text; save it as UTF-8"),
        ("a: \x07", "images.yaml: not valid YAML ("),
    ],
)
def test_a_wrong_file_is_refused_with_place_and_remedy(tmp_path: Path, text: str | bytes, said: str) -> None:
    """File, line when there is one, the field's path and what to do, as the first fault."""
    assert said in faults(tmp_path, text)[0]


def test_all_faults_are_found_in_one_reading(tmp_path: Path) -> None:
    """Somebody with three typos runs the command twice, not four times."""
    said = faults(
        tmp_path,
        """version: 1
pairs:
  - source: alpine:1
  - source: alpine:2
    destination: r.example/a b:1
  - sorce: alpine:3
    destination: r.example/a:3
""",
    )

    assert [line.split(", ")[2].partition(":")[0] for line in said] == [
        "pairs[0].destination",
        "pairs[1].destination",
        "pairs[2].sorce",
        "pairs[2].source",
    ]


def test_a_file_of_another_tool_does_not_fill_the_screen(tmp_path: Path) -> None:
    """Reading stops after twenty faults and asks whether this is a job file at all."""
    said = faults(tmp_path, "version: 1\npairs:\n" + "  - nope: 1\n" * 1000)

    assert len(said) == jobfile.FAULTS_MAX + 1
    assert said[-1] == "images.yaml: 20 faults found, reading stopped; is this a job file of distworker?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # 200,000 brackets crash libyaml's composer, 30 doublings are a billion values.
        ("version: 1\npairs: " + "[" * 200_000 + "]" * 200_000, "nested deeper than 20 levels"),
        (
            "version: 1\nx0: &x0 [a, a]\n"
            + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 30)),
            "expands to too many values",
        ),
        ("version: 1\npairs: &p [*p]\n", "images.yaml"),
    ],
)
def test_a_hostile_file_is_refused_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    """Deep nesting, exploding aliases and a list that holds itself end as one sentence."""
    monkeypatch.setattr(jobfile, "NODES_MAX", 20_000)
    assert any(said in line for line in faults(tmp_path, text))


def test_more_pairs_than_a_job_takes_are_refused_with_the_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each of them is looked at."""
    monkeypatch.setattr(jobfile, "PAIRS_MAX", 100)
    pair = "  - {source: s.example/a, destination: d.example/a}\n"
    assert any(
        "images.yaml, line 2, pairs: are 101, one job takes 100" in line
        for line in faults(tmp_path, "version: 1\npairs:\n" + pair * 101)
    )


def test_two_images_for_one_tag_are_named_with_their_line(tmp_path: Path) -> None:
    """The second one is the fault; the first is named by its number."""
    text = """version: 1
platforms: [linux/amd64]
pairs:
  - {source: a.example/x:1, destination: c.example/y}
  - {source: a.example/x:1, destination: c.example/y}
  - source: b.example/x:1
    destination: c.example/y
"""
    assert faults(tmp_path, text) == [
        "images.yaml, line 7, pairs[2].destination: pairs[0] puts another image there; give each its own tag"
    ]


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    """The operating system's reason and a remedy, no traceback."""
    found = jobfile.read(tmp_path / "none.yaml")

    assert "cannot be read (No such file or directory); check the path" in found.faults[0].message


def test_ten_thousand_pairs_are_read(tmp_path: Path) -> None:
    """Bulk is the point of a job file."""
    pairs = "".join(
        f"  - source: a.example/r{n}:1\n    destination: b.example/r{n}:1\n" for n in range(10_000)
    )

    found = read(tmp_path, "version: 1\npairs:\n" + pairs)

    assert found.faults == []
    assert len(found.fields["pairs"]) == 10_000


def test_a_file_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device or a log given by mistake is refused before it fills the memory."""
    monkeypatch.setattr(jobfile, "FILE_MAX", 1024 * 1024)

    found = jobfile.read(Path("/dev/zero"))

    assert [fault.message for fault in found.faults] == [
        "/dev/zero: larger than 1 MiB; split it into several files"
    ]
