"""The documents say everything that exists and nothing that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from distworker import names
from distworker.cli import jobfile
from distworker.cli.main import COMMANDS, cli
from distworker.errors import CODES, TransferError
from distworker.service.payload import FIELDS
from distworker.settings import Settings
from distworker.settings_registry import RegistrySettings

ROOT = Path(__file__).parents[2]
PAGES: Mapping[str, str] = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
OPERATIONS, SETTINGS = PAGES["docs/operations.md"], PAGES["docs/settings.md"]


def keys(model: type[BaseModel]) -> Iterator[str]:
    """The keys of a settings model, those of its sections too."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield f"[{name}]"
            yield from keys(inner)
        else:
            yield name


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name) if isinstance(cli, click.Group) else None
    assert found is not None
    return found


@pytest.mark.parametrize("key", sorted({*keys(Settings), *keys(RegistrySettings)}))
def test_every_setting_is_explained(key: str) -> None:
    """A setting that operators cannot find does not exist."""
    assert f"`{key}`" in SETTINGS


def test_every_explained_setting_exists() -> None:
    """A setting that was renamed is renamed in the documents too."""
    documented = {
        name
        for line in SETTINGS.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z0-9_]+)`", line.split("|")[1])
    }

    assert documented == {
        key for model in (Settings, RegistrySettings) for key in keys(model) if key[0] != "["
    }


@pytest.mark.parametrize("key", sorted(key for key in keys(Settings) if key[0] != "["))
def test_the_example_file_shows_every_setting(key: str) -> None:
    """`config/distworker.toml` is what operators copy."""
    assert re.search(rf"^# {key} = ", (ROOT / "config/distworker.toml").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_explained(name: str) -> None:
    """One page names all of them, and the front page every command."""
    options = {
        option
        for parameter in command(name).params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }

    assert f"`distworker {name}" in OPERATIONS
    assert f"distworker {name}" in PAGES["README.md"]
    assert {option for option in options if f"`{option}" not in OPERATIONS} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_option_named_in_a_document_exists(page: str) -> None:
    """Examples that people copy work: each option after `distworker COMMAND` is one of that command."""
    for line in PAGES[page].splitlines():
        for name, rest in re.findall(r"distworker ([a-z]+)([^#`|·]*)", line):
            if name not in COMMANDS:
                continue
            known = {option for parameter in command(name).params for option in parameter.opts}
            assert set(re.findall(r"(?<!\w)--?[a-z][a-z-]*", rest)) <= known | {"--help"}, line


def test_the_task_other_systems_send_is_explained() -> None:
    """Name, queue and every field of the payload."""
    page = PAGES["docs/enqueue.md"]

    assert names.SUBMIT_JOB in page
    assert names.QUEUE_CONTROL in page
    assert [field for field in FIELDS if f"`{field}`" not in page] == []


def test_every_key_of_a_job_file_is_explained() -> None:
    """In the table of fields."""
    page = PAGES["docs/jobfile.md"]

    assert [key for key in (*jobfile.TOP, *jobfile.PAIR) if f"`{key}`" not in page] == []


def test_the_example_job_file_is_a_right_one(tmp_path: Path) -> None:
    """What people copy first has no fault."""
    example = re.search(r"```yaml\n(.*?)```", PAGES["docs/jobfile.md"], re.DOTALL)
    assert example is not None
    file = tmp_path / "images.yaml"
    file.write_text(example[1])

    assert jobfile.read(file).faults == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_link_named_in_a_document_is_there(page: str) -> None:
    """A path in a document that leads nowhere sends a newcomer astray."""
    named = set(re.findall(r"`((?:distworker|tasks|config|docs|tests|deploy|bench)/[\w./-]+)`", PAGES[page]))
    linked = set(re.findall(r"\]\(([^)#:]+)\)", PAGES[page]))
    folder = (ROOT / page).parent

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    assert [target for target in sorted(linked) if not (folder / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_error_code_in_an_example_exists(page: str) -> None:
    """Examples of failures are failures that happen."""
    shown = set(re.findall(r"^([a-z]+_[a-z_]+): ", PAGES[page], re.MULTILINE))

    assert shown <= set(CODES)


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_in_a_document_is_read_by_somebody(page: str) -> None:
    """`DISTWORKER_…` names are settings, or belong to the settings' place, to Flower or to `make live`."""
    others = [(ROOT / path).read_text() for path in ("config/flowerconfig.py", "tests/live/__main__.py")]
    section, known = "", {"DISTWORKER_CONFIG", *re.findall(r"DISTWORKER_[A-Z_]+[A-Z]", " ".join(others))}
    for key in keys(Settings):
        section = f"{key[1:-1].upper()}_" if key[0] == "[" else section
        known |= {f"DISTWORKER_{key.upper()}", f"DISTWORKER_{section}{key.upper()}"}

    assert set(re.findall(r"DISTWORKER_[A-Z_]+[A-Z]", PAGES[page])) <= known


def test_every_code_of_a_registry_is_explained_with_its_verdict() -> None:
    """The table is what other systems are written against."""
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (yes|no) \|", PAGES["docs/errors.md"], re.MULTILINE)

    transfers = {code for code, cls in CODES.items() if issubclass(cls, TransferError)} - {TransferError.code}
    assert transfers <= {code for code, _ in rows}
    assert {code: verdict == "yes" for code, verdict in rows} == {code: CODES[code].retry for code, _ in rows}
