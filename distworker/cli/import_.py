"""`distworker import PATH [REF]`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from distworker.cli import options, report, storetext, work


@click.command("import", short_help="Bring images from an OCI layout or a docker archive into the store.")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.argument("reference", metavar="[REF]", required=False)
@options.stored
@options.common
def command(path: Path, reference: str | None, as_json: bool, local: bool, store: Path | None) -> int:
    """Bring the images of PATH into the store.

    PATH is an OCI layout, in a folder or a tar archive, or an archive of `docker save`; an archive may be
    packed with gzip. Each image gets the name that the archive says, or REF: one with a tag for a single
    image, a repository for all tags of the archive. Every digest is checked; when anything is wrong, no image
    gets a name.

    \b
    Examples:
      distworker import alpine.tar
      distworker import ./layout registry.example.com/team/app
    """
    from distworker.care.archive import open_archive  # noqa: PLC0415 - keeps --help quick
    from distworker.care.importing import bring_in, read_images  # noqa: PLC0415
    from distworker.errors import InvalidRequest  # noqa: PLC0415
    from distworker.reference import Reference  # noqa: PLC0415

    wanted = None if reference is None else Reference.parse(reference)
    if wanted is not None and wanted.digest is not None:
        raise InvalidRequest("an image is kept under a tag; its digest follows from it", field="reference")
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        progress.at(f"{report.size(done)} read")

    with (
        closing(open_archive(path)) as archive,
        work.care(work.settings(options.current()), local, store) as care,
        storetext.Progress("import") as progress,
    ):
        images = read_images(archive, moved)
        found = bring_in(care.store, care.tenant, archive, images, wanted, moved)
    for image in found:
        for name in image.names:
            if as_json:
                record = {"ref": name, "digest": str(image.digest), "bytes": image.bytes}
                storetext.event("imported", record)
            else:
                click.echo(f"{name}  {image.digest}  {report.size(image.bytes)}")
    return report.OK
