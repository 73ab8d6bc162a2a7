"""Commands that look at collections of vectors and change them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
from tqdm import tqdm

from dedup_lib.cli.console import complete_run, console, show_table, shown
from dedup_lib.errors import SettingError
from dedup_lib.run.folder import RunFolder, describe_known_runs, named_run_dir
from dedup_lib.sanitise import sanitise
from dedup_lib.settings import CollectionsSettings, EncoderName, FrameSpan, SchemaName


@click.group(short_help="Manage the vector store.")
def collections() -> None:
    """Manage the vector store: the Milvus Lite file of a run, or the server that MILVUS_URI names.

    \b
    python -m dedup_lib collections ping
    python -m dedup_lib collections list --run ads
    """


def _manage(action: str, run_name: str, **given: object) -> None:
    # These import pymilvus and the encoders, which --help does not need.
    from dedup_lib.steps.collections import manage_collections
    from dedup_lib.store.address import StoreAddress

    usual = CollectionsSettings().as_record()
    settings = CollectionsSettings.of({**usual, "run_dir": named_run_dir(run_name), "action": action, **given})
    run = RunFolder(settings.run_dir)
    if action != "create" and not run.path.is_dir() and StoreAddress.find(run).is_local:
        known = describe_known_runs()
        raise SettingError(
            "--run", run_name, f"there is no such run folder; {known}. For a server, name it in MILVUS_URI"
        )
    found = manage_collections(run, settings).to_dict("records")
    if found:
        show_table(found)
    else:
        console.print(f"{shown(_name_store(run_name))} holds no collections")


def _name_store(run_name: str) -> str:
    from dedup_lib.store.address import StoreAddress

    return str(StoreAddress.find_server(Path.cwd()) or f"the Milvus Lite file of the run {run_name}")


_run_option = click.option(
    "--run",
    "run_name",
    default="demo",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_run,
    help="The run in outputs/ whose Milvus Lite file to use; ignored where MILVUS_URI names a server.",
)


@collections.command()
@_run_option
def ping(run_name: str) -> None:
    """Check that the store answers.

    \b
    python -m dedup_lib collections ping
    """
    _manage("ping", run_name)


@collections.command(name="list")
@_run_option
def list_(run_name: str) -> None:
    """List every collection: rows, schema, recipe, sample rows.

    \b
    python -m dedup_lib collections list --run ads
    """
    _manage("list", run_name)


@collections.command()
@click.argument("collection")
@_run_option
@click.option(
    "--schema",
    type=click.Choice(get_args(SchemaName)),
    default=CollectionsSettings.schema,
    show_default=True,
    help="What a row holds: the first frame of a video, one of its frames, or all of them pooled.",
)
@click.option(
    "--encoder",
    type=click.Choice(get_args(EncoderName)),
    default=CollectionsSettings.encoder,
    show_default=True,
    help="What makes the vectors: SSCD, a CLIP model, or a perceptual hash.",
)
@click.option("--model", default="", help="Weights of SSCD (distilled, full, a file), or id or folder of a CLIP model.")
@click.option("--num-frames", default=CollectionsSettings.num_frames, show_default=True, help="Frames per video.")
@click.option(
    "--frame-span",
    type=click.Choice(get_args(FrameSpan)),
    default=CollectionsSettings.frame_span,
    show_default=True,
    help="Take the frames from the whole duration, or from the start.",
)
def create(run_name: str, **given: object) -> None:
    """Create an empty collection.

    03_extract creates the collection that it fills. Create one beforehand only to settle how its vectors are made.

    \b
    python -m dedup_lib collections create ads --schema aggregated --encoder clip
    """
    _manage("create", run_name, **given)


@collections.command()
@click.argument("collection")
@click.argument("new_name")
@_run_option
def rename(run_name: str, collection: str, new_name: str) -> None:
    """Rename a collection.

    Runs that used it need --set collection=NEW_NAME from then on.

    \b
    python -m dedup_lib collections rename videos ads_2026 --run ads
    """
    _manage("rename", run_name, collection=collection, new_name=new_name)


@collections.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--collection", default="videos", show_default=True, metavar="NAME", help="The collection to copy.")
@click.option("--as", "new_name", default="", metavar="NAME", help="Name of the copy; the same unless given.")
def copy(source: str, target: str, collection: str, new_name: str) -> None:
    """Copy a collection from one store to another, and check that the two are equal.

    FROM and TO are each one of three: `server`, the store that MILVUS_URI names in .env or the environment; the name
    of a run in outputs/, for its Milvus Lite file; or the path of a Milvus Lite file, which ends in .db (a missing one
    is created for TO). Give the same command again to continue a copy that was stopped: rows that are already there
    with the same vector are skipped. The original stays as it is.

    \b
    python -m dedup_lib collections copy ads server --collection videos --as ads
    python -m dedup_lib collections copy server backup.db --collection ads
    """
    from dedup_lib.store.address import StoreAddress
    from dedup_lib.store.transfer import copy_between

    from_store, to_store = StoreAddress.parse(source), StoreAddress.parse(target)
    with tqdm(desc=sanitise(collection), unit=" rows", leave=False, disable=not console.is_terminal) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = copy_between(from_store, to_store, collection=collection, new_name=new_name, progress=show)
    console.print(
        f"copied {shown(collection)} in {shown(from_store)} to {shown(new_name or collection)} in {shown(to_store)}: "
        f"{report.rows:,} rows, {report.written:,} written now and {report.rows - report.written:,} there before; all "
        "were compared and are equal"
    )
    if report.target_rows != report.rows:
        console.print(f"{report.target_rows - report.rows:,} further rows are in the copy only")


@collections.command()
@click.argument("collection")
@_run_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def drop(run_name: str, collection: str, yes: bool) -> None:
    """Delete a collection with all its rows.

    \b
    python -m dedup_lib collections drop ads
    python -m dedup_lib collections drop ads --yes
    """
    if not yes:
        where = _name_store(run_name)
        click.confirm(sanitise(f"Delete the collection {collection} with all its vectors from {where}?"), abort=True)
    _manage("drop", run_name, collection=collection)
