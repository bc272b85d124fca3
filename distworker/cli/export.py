"""`distworker export REF… PATH`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distworker.cli import options, report, storetext, work

if TYPE_CHECKING:
    from distworker.care.exporting import Picked
    from distworker.care.refs import Ref
    from distworker.service.care import Care

OCI, DOCKER = "oci", "docker"


@click.command("export", short_help="Write images of the store as an OCI layout or a docker archive.")
@click.argument("references", metavar="[REF]...", nargs=-1)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice([OCI, DOCKER]),
    default=OCI,
    show_default=True,
    help="oci: a layout, as a tar when PATH ends in .tar. docker: an archive that `docker load` takes.",
)
@click.option(
    "--index", is_flag=True, help="Only index.json and oci-layout, for blobs that are at PATH; all images."
)
@options.selection
@options.stored
@options.common
def command(
    references: tuple[str, ...],
    path: Path,
    form: str,
    index: bool,
    all_tags: bool,
    platforms: tuple[str, ...],
    as_json: bool,
    local: bool,
    store: Path | None,
) -> int:
    """Write the images REF… of the store to PATH, every blob checked against its digest.

    A folder that holds an OCI layout is added to; an archive must not exist. Images of several platforms go
    out whole, unless --platform chooses one, as --format docker needs. With --index, the tenant's folder of a
    store (or its copy on disk) becomes an OCI layout of all its images, or of those named.

    \b
    Examples:
      distworker export alpine:3.20 ./alpine
      distworker export --all-tags quay.io/team/app app.tar
      distworker export --format docker --platform linux/amd64 alpine:3.20 alpine.tar
    """
    if not references and not index:
        raise click.UsageError("name the images to export: distworker export REF... PATH")
    if index and (form == DOCKER or platforms):
        raise click.UsageError("--index makes an OCI layout of what is there; it takes no other form")
    with work.care(work.settings(options.current()), local, store) as care:
        chosen = _chosen(care, references, all_tags)
        if index:
            return _index(care, chosen, path, as_json)
        return _write(care, chosen, path, form, platforms, as_json)


def _chosen(care: Care, references: Sequence[str], all_tags: bool) -> list[Ref]:
    from distworker.care.refs import named, refs  # noqa: PLC0415 - keeps --help quick
    from distworker.errors import InvalidRequest, ManifestUnknown  # noqa: PLC0415
    from distworker.reference import Reference  # noqa: PLC0415

    if not references:
        return list(refs(care.store, care.tenant))
    found: dict[str, Ref] = {}
    for text in references:
        reference = Reference.parse(text)
        if reference.digest is not None:
            raise InvalidRequest("the store knows images by their tags; name a tag", field="reference")
        if all_tags and reference.tag:
            raise InvalidRequest("--all-tags takes a repository without a tag", field="reference")
        wanted = reference if all_tags else reference.with_default_tag()
        before = len(found)
        found |= {ref.key: ref for ref in named(care.store, care.tenant, replace(wanted, digest=None))}
        if len(found) == before:
            raise ManifestUnknown(f"the store holds no {wanted}; pull it first", reference=str(wanted))
    return list(found.values())


def _write(
    care: Care, chosen: Sequence[Ref], path: Path, form: str, platforms: Sequence[str], as_json: bool
) -> int:
    from distworker.care import exporting  # noqa: PLC0415 - keeps --help quick
    from distworker.platforms import Platform  # noqa: PLC0415

    wanted = tuple(Platform.parse(text) for text in platforms)
    with storetext.Progress("export") as progress:
        done = 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress.at(f"{report.size(done)} of {report.size(total)}", done / total if total else None)

        source = exporting.Source(care.store, care.tenant, moved)
        images = [source.pick(ref, wanted) for ref in chosen]
        total = _bytes(images)
        if form == DOCKER:
            with exporting.new_archive(path) as out:
                exporting.write_docker(source, images, out)
        elif path.suffix == ".tar":
            with exporting.new_archive(path) as out:
                exporting.write_layout(source, images, exporting.LayoutTar(out))
        else:
            folder = exporting.LayoutFolder(path)
            exporting.write_layout(source, images, folder, folder.entries)
    for image in images:
        _say(image.ref.name, str(image.tree.root.digest), as_json)
    if not as_json:
        click.echo(f"{storetext.many(len(images), 'image')}, {report.size(total)}, at {path}")
    return report.OK


def _index(care: Care, chosen: Sequence[Ref], path: Path, as_json: bool) -> int:
    from distworker.care import exporting  # noqa: PLC0415 - keeps --help quick

    heads = exporting.heads(care.store, care.tenant, chosen)
    exporting.write_index(path, heads)
    for ref, root in heads:
        _say(ref.name, str(root.digest), as_json)
    if not as_json:
        click.echo(f"{storetext.many(len(heads), 'image')} in {path / 'index.json'}")
    return report.OK


def _bytes(images: Sequence[Picked]) -> int:
    from distworker.plan.resolve import blobs_of  # noqa: PLC0415 - keeps --help quick

    sizes = {blob.digest: blob.size for image in images for blob in blobs_of(image.tree)}
    sizes |= {each.digest: each.size for image in images for each in image.tree.manifests}
    return sum(sizes.values())


def _say(name: str, digest: str, as_json: bool) -> None:
    if as_json:
        storetext.event("exported", {"ref": name, "digest": digest})
    else:
        click.echo(f"{name}  {digest}")
