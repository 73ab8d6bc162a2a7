"""What it costs to find every pair of a list whose vectors are alike, and how that grows.

    python benchmarks/search.py --help

The vectors are made up: clusters of somewhat similar videos, and known copies. Each way of searching runs in a separate
process, so that its peak memory can be measured. Ways that would take hours search only for a sample of the rows. Their
seconds are scaled up to all rows, and such figures are marked `extrapolated`. The true pairs of the sample come from
products in float64 of its rows with all rows. They give the recall and the wrong pairs of each way.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from matplotlib import rc_context
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dedup_lib.match.index_search import audit_candidates, join_by_search
from dedup_lib.match.known_videos import find_near
from dedup_lib.match.vector_join import Candidates, join_exactly
from dedup_lib.match.vector_table import BLOCK_LINES, VectorTable
from dedup_lib.records import Pooling, Recipe, StoredRows, Vectors, VideoVectors, video_key
from dedup_lib.report.figures import new_figure
from dedup_lib.report.style import SERIES_COLOURS, SERIES_MARKERS, STYLE
from dedup_lib.run.files import write_text_atomically
from dedup_lib.settings import MAX_TOP_K
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.collection import UPSERT_ROWS
from dedup_lib.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
RECIPE = Recipe(encoder="clip", model="made up", num_frames=1, frame_span="first")
FLOOR = 0.85
DIMENSION = 512
COPY_EVERY = 20
MAX_PAIRS = 50_000_000
SAMPLE = 2_000
"""Number of rows in the sample. Their pairs are known, and extrapolated ways search only for them."""
MAX_FAISS_ROWS = MAX_SERVER_ROWS = 90_000
"""In larger lists, FAISS and a server search only for the sample, and the server is not asked for more neighbours where
a result is full."""
MAX_LITE_ROWS = 10_000
"""The same limit for Milvus Lite."""

console = Console(highlight=False)


def make_vectors(rows: int, path: Path) -> None:
    """Write unit vectors, float32 (rows, 512). They span 16 dimensions, so that they crowd as the vectors of frames do.
    They form clusters of 1 to 39 rows with a cosine around 0.84. Every twentieth row is a copy of the row before it."""
    random = np.random.default_rng(0)
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, DIMENSION))
    directions = random.normal(size=(16, DIMENSION)).astype(np.float32) / 4
    start = 0
    while start < rows:
        sizes = random.integers(1, 40, size=500)
        centres = np.repeat(random.normal(size=(500, 16)), sizes, axis=0)
        made = (centres + 0.44 * random.normal(size=centres.shape)).astype(np.float32) @ directions
        copies = np.arange(COPY_EVERY - 1, len(made), COPY_EVERY)
        made[copies] = made[copies - 1] + 0.1 * random.normal(size=(len(copies), DIMENSION))
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        end = min(rows, start + len(made))
        written[start:end] = made[: end - start]
        start = end
    written.flush()


def load(path: Path) -> Vectors:
    """The vectors of a file, mapped from disk, float32 (rows, 512)."""
    return np.asarray(np.load(path, mmap_mode="r"))


def make_table(path: Path, folder: Path) -> VectorTable:
    """The table of these vectors. Each vector is a separate video."""
    vectors = load(path)
    videos = (
        (row, VideoVectors(url=str(row), vectors=vectors[row : row + 1], positions=(0,))) for row in range(len(vectors))
    )
    return VectorTable.collect(videos, positions=1, dimension=DIMENSION, folder=folder)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that some work takes, and its result."""
    start_s = time.perf_counter()
    result = work()
    return round(time.perf_counter() - start_s, 2), result


def timed_join(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Like `timed`, with the CPU-seconds of all cores together. These say more where other processes run too."""
    start_s = time.process_time()
    join_s, result = timed(work)
    return {"join_s": join_s, "join_cpu_s": round(time.process_time() - start_s, 2)}, result


# Ways. Each takes the path of the vectors and a folder, and returns its figures.


def multiply_bare(path: Path, folder: Path) -> dict[str, Any]:
    """Compute only the products of vectors in memory, each pair of blocks once, without threshold and pairs."""
    vectors = np.array(load(path))
    product = np.empty((BLOCK_LINES, BLOCK_LINES), np.float32)

    def multiply() -> None:
        for top in range(0, len(vectors), BLOCK_LINES):
            left = vectors[top : top + BLOCK_LINES]
            for start in range(top, len(vectors), BLOCK_LINES):
                right = vectors[start : start + BLOCK_LINES]
                np.matmul(left, right.T, out=product[: len(left), : len(right)])

    return timed_join(multiply)[0]


def join_all(path: Path, folder: Path) -> dict[str, Any]:
    """Search as 06_search_and_clean does."""
    collect_s, table = timed(lambda: make_table(path, folder))
    join, proposal = timed_join(lambda: join_exactly(table, floor=FLOOR, max_pairs=MAX_PAIRS))
    score_s, codes = timed(lambda: keep_alike(table, proposal))
    return {"collect_s": collect_s, **join, "score_s": score_s, "pairs": len(codes), **judge(path, codes)}


def keep_alike(table: VectorTable, proposal: Candidates) -> NDArray[np.int64]:
    """The proposed pairs with a similarity of at least `FLOOR`."""
    alike = table.compare(proposal.first, proposal.second) >= FLOOR
    return np.asarray(proposal.first[alike] * len(table) + proposal.second[alike])


def faiss_flat(path: Path, folder: Path) -> dict[str, Any]:
    """The range search of FAISS, by brute force."""
    import faiss

    vectors = np.array(load(path))
    asked = np.arange(len(vectors)) if len(vectors) <= MAX_FAISS_ROWS else sample_rows(len(vectors))
    index_s, index = timed(lambda: faiss.IndexFlatIP(DIMENSION))
    add_s, _ = timed(lambda: index.add(vectors))
    return {"index_s": index_s + add_s, **range_search(path, index, vectors, asked)}


def faiss_ivf(path: Path, folder: Path) -> dict[str, Any]:
    """The range search of FAISS in an inverted file, trained on some of the vectors."""
    import faiss

    vectors = np.array(load(path))
    lists = int(4 * np.sqrt(len(vectors)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIMENSION), DIMENSION, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = 16
    learn = vectors[np.random.default_rng(0).choice(len(vectors), min(len(vectors), 40 * lists), replace=False)]
    index_s, _ = timed(lambda: (index.train(learn), index.add(vectors)))
    asked = np.arange(len(vectors)) if len(vectors) <= MAX_FAISS_ROWS else sample_rows(len(vectors))
    return {"index": f"nlist {lists}, nprobe 16", "index_s": index_s, **range_search(path, index, vectors, asked)}


def range_search(path: Path, index: Any, vectors: Vectors, asked: NDArray[np.int64]) -> dict[str, Any]:
    """Ask an index of FAISS for all neighbours of these rows with a similarity of at least `FLOOR`."""
    codes = []

    def search() -> None:
        for start in range(0, len(asked), 1000):
            rows = asked[start : start + 1000]
            limits, _, found = index.range_search(vectors[rows], FLOOR)
            codes.append(code_of(np.repeat(rows, np.diff(limits.astype(np.int64))), found, len(vectors)))

    join_s, _ = timed(search)
    return extrapolate(join_s, asked, len(vectors)) | judge(path, np.unique(np.concatenate(codes)))


def milvus_lite(path: Path, folder: Path) -> dict[str, Any]:
    """Insert, and search in batches with the default index. Where a result is full, the next search goes deeper."""
    return search_store(path, StoreAddress(uri=str(folder / "milvus.db")), folder)


def milvus_server(path: Path, folder: Path) -> dict[str, Any]:
    """The same on the server that MILVUS_URI names. The peak memory is that of the client."""
    return search_store(
        path, StoreAddress(uri=os.environ["MILVUS_URI"], token=os.environ.get("MILVUS_TOKEN", "")), folder
    )


def search_store(path: Path, address: StoreAddress, folder: Path) -> dict[str, Any]:
    """Fill a collection, index it, read it back, and search it in batches and row by row."""
    vectors = load(path)
    with Store(address) as store:
        collection = store.ensure_collection(
            "benchmark", pooling=Pooling.FIRST, recipe=RECIPE, dimension=DIMENSION, overwrite=True
        )

        def insert() -> None:
            for start in range(0, len(vectors), UPSERT_ROWS):
                block = vectors[start : start + UPSERT_ROWS]
                collection.upsert(
                    [
                        VideoVectors(url=str(start + row), vectors=vector[None], positions=(0,))
                        for row, vector in enumerate(block)
                    ]
                )

        insert_s, _ = timed(insert)
        index_s, _ = timed(lambda: collection.ensure_index("IVF_FLAT", {"nlist": 128}))
        stream_s, _ = timed(lambda: sum(len(rows) for rows in collection.stream_rows()))
        singles = sample_rows(len(vectors))[:30]
        single_s, _ = timed(lambda: [collection.search(vectors[row][None], 50) for row in singles])
        figures: dict[str, Any] = {
            "insert_s": insert_s,
            "index": "IVF_FLAT, nlist 128, nprobe 32",
            "index_s": index_s,
            "stream_s": stream_s,
            "row_by_row_s (extrapolated)": round(single_s / len(singles) * len(vectors), 0),
        }
        if address.is_local:
            figures["disk_mb"] = round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6)
        line_of = {video_key(str(row)): row for row in range(len(vectors))}
        search = partial(collection.search, params={"nprobe": 32})
        if len(vectors) > (MAX_LITE_ROWS if address.is_local else MAX_SERVER_ROWS):
            asked = sample_rows(len(vectors))
            join_s, hits = timed(lambda: search(vectors[asked], 50))
            pairs = [
                (row, line_of[hit.video])
                for row, of in zip(asked, hits, strict=True)
                for hit in of
                if hit.cosine >= FLOOR
            ]
            ones, others = np.array(pairs, np.int64).reshape(-1, 2).T
            codes = np.unique(code_of(ones, others, len(vectors)))
            return figures | extrapolate(join_s, asked, len(vectors)) | judge(path, codes)
        table = make_table(path, folder)

        def join() -> Candidates:
            return join_by_search(
                table, search, floor=FLOOR, top_k=(50, MAX_TOP_K), max_pairs=MAX_PAIRS, line_of=line_of
            )

        join_s, proposal = timed(join)
        audit_s, audit = timed(lambda: audit_candidates(table, proposal, floor=FLOOR, videos=1000, max_pairs=MAX_PAIRS))
        return figures | {
            "join_s": join_s,
            "expanded_queries": proposal.expanded_queries,
            "audit_s": audit_s,
            "audit": audit.recall,
            **judge(path, keep_alike(table, proposal)),
        }


WAYS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "bare product": multiply_bare,
    "exact": join_all,
    "FAISS flat": faiss_flat,
    "FAISS inverted file": faiss_ivf,
    "Milvus Lite": milvus_lite,
    "Milvus server": milvus_server,
}


def sample_rows(rows: int) -> NDArray[np.int64]:
    """The sample: the rows whose neighbours are searched."""
    return np.sort(np.random.default_rng(1).choice(rows, size=min(SAMPLE, rows), replace=False))


def code_of(ones: NDArray[np.int64], others: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """One number for each pair of different rows."""
    ones, others = ones[ones != others], others[ones != others]
    return np.minimum(ones, others) * rows + np.maximum(ones, others)


def extrapolate(seconds: float, asked: NDArray[np.int64], rows: int) -> dict[str, Any]:
    """The seconds for all rows, scaled up from the seconds for the `asked` rows."""
    if len(asked) == rows:
        return {"join_s": seconds}
    return {"join_s": round(seconds / len(asked) * rows, 1), "extrapolated": f"from {len(asked):,} of {rows:,} rows"}


def true_pairs(path: Path) -> NDArray[np.int64]:
    """The true pairs of the sampled rows, by products in float64 with all rows."""
    kept = path.with_suffix(".true.npy")
    if not kept.exists():
        vectors = load(path)
        asked = sample_rows(len(vectors))
        own = vectors[asked].astype(np.float64)
        codes = []
        for start in range(0, len(vectors), BLOCK_LINES):
            rows, others = np.nonzero(own @ vectors[start : start + BLOCK_LINES].astype(np.float64).T >= FLOOR)
            codes.append(code_of(asked[rows], start + others, len(vectors)))
        np.save(kept, np.unique(np.concatenate(codes)))
    return np.asarray(np.load(kept))


def know_pairs(path: Path, folder: Path) -> dict[str, Any]:
    """Compute the true pairs before any way needs them."""
    return {"known": len(true_pairs(path))}


def judge(path: Path, codes: NDArray[np.int64]) -> dict[str, Any]:
    """The recall of these pairs for the sampled rows, and the number of wrong pairs among them."""
    rows = len(load(path))
    true, asked = true_pairs(path), sample_rows(rows)
    own = codes[np.isin(codes // rows, asked) | np.isin(codes % rows, asked)]
    return {"recall": round(float(np.isin(true, own).mean()), 4), "wrong": int((~np.isin(own, true)).sum())}


# Weekly delivery


def deliver(old_path: Path, new_path: Path, folder: Path) -> dict[str, Any]:
    """Compare a new list with a collection: vectors only, streamed as a store returns them."""

    def stream() -> Iterator[StoredRows]:
        vectors = np.load(old_path, mmap_mode="r")
        for start in range(0, len(vectors), 1000):
            block = np.array(vectors[start : start + 1000])
            urls = tuple(f"old {start + row}" for row in range(len(block)))
            keys = tuple(map(video_key, urls))
            yield StoredRows(keys=keys, videos=keys, urls=urls, positions=(0,) * len(block), vectors=block)

    read_s, rows = timed(lambda: sum(len(block) for block in stream()))
    table = make_table(new_path, folder)
    near_s, near = timed(
        lambda: find_near(table, stream(), floor=FLOOR, is_wanted=lambda key: True, max_pairs=MAX_PAIRS)
    )
    return {"old": rows, "new": len(table), "stream_s": read_s, "near_s": near_s, "near": len(near)}


def make_delivery(old_path: Path, new_path: Path, rows: int) -> None:
    """Write new vectors. A tenth of them are near copies of old vectors."""
    random = np.random.default_rng(7)
    made = random.normal(size=(rows, DIMENSION)).astype(np.float32)
    old = load(old_path)
    chosen = np.sort(random.choice(len(old), size=rows // 10, replace=False))
    made[: len(chosen)] = old[chosen] + 0.01 * made[: len(chosen)]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    np.save(new_path, made)


# Running


def run_alone(work: Callable[..., dict[str, Any]], *arguments: Path) -> dict[str, Any]:
    """Run some work in a new process. Returns its figures, with the peak memory of the process and its children."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(writer, work, arguments))
    process.start()
    writer.close()
    try:
        figures: dict[str, Any] = reader.recv()
    except EOFError:
        figures = {"failed": "the process died"}
    process.join()
    return figures


def _run(writer: Any, work: Callable[..., dict[str, Any]], arguments: tuple[Path, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        figures = work(*arguments, Path(folder))
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    writer.send(figures | {"peak_mb": round((peak_kb + children_kb) / 1024)})


def fit(rows: list[dict[str, Any]], way: str) -> float | None:
    """The exponent with which the seconds of a way grow with the number of videos. None for fewer than two sizes."""
    points = [(row["videos"], row["join_s"]) for row in rows if row["way"] == way and row.get("join_s")]
    if len(points) < 2:
        return None
    counts, seconds = np.log(np.array(points)).T
    return round(float(np.polyfit(counts, seconds, 1)[0]), 2)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the seconds over the number of videos, one line for each way."""
    with rc_context(STYLE):
        figure, grid = new_figure(1, 1, width_in=8, height_in=4.8)
        axes = grid[0, 0]
        for place, way in enumerate(WAYS):
            points = [(row["videos"], row["join_s"]) for row in rows if row["way"] == way and row.get("join_s")]
            if points:
                counts, seconds = zip(*points, strict=True)
                exponent = fit(rows, way)
                axes.plot(
                    counts,
                    seconds,
                    color=SERIES_COLOURS[place % len(SERIES_COLOURS)],
                    marker=SERIES_MARKERS[place % len(SERIES_MARKERS)],
                    linestyle="-" if place < len(SERIES_COLOURS) else "--",
                    label=way if exponent is None else f"{way}: $N^{{{exponent}}}$",
                )
        axes.set(xscale="log", yscale="log", xlabel="videos", ylabel="seconds for all pairs")
        axes.legend(loc="lower right")
        figure.savefig(path, dpi=120)


@click.command()
@click.option("--sizes", default="10000,90000,300000", show_default=True, help="Videos in each list, by commas.")
@click.option(
    "--ways",
    default=",".join(way for way in WAYS if way != "Milvus server" or "MILVUS_URI" in os.environ),
    help="What to measure, by commas; by default all, and a server where MILVUS_URI names one.",
)
@click.option("--delivery", default=0, help="Old videos of the weekly delivery of 5,000; 0: none.")
@click.option(
    "--results-dir", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results", show_default=True
)
@click.option("--folder", type=click.Path(path_type=Path), default=None, help="Where vectors are kept for another run.")
def main(sizes: str, ways: str, delivery: int, results_dir: Path, folder: Path | None) -> None:
    """Join made-up lists of several sizes. Figures of ways and sizes that are not asked for stay as they are."""
    path = results_dir / "search.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": [], "delivery": None}
    rows = {(row["way"], row["videos"]): row for row in known["rows"]}
    with tempfile.TemporaryDirectory(prefix="search-") as temporary:
        kept = folder or Path(temporary)
        for made in (kept, results_dir):
            made.mkdir(parents=True, exist_ok=True)
        for count in sorted(int(size) for size in sizes.split(",") if size):
            vectors = kept / f"{count}.npy"
            if not vectors.exists():
                make_vectors(count, vectors)
            # A separate process, because otherwise its memory would count in the peaks of the ways.
            run_alone(know_pairs, vectors)
            for way in (name for name in WAYS if name in ways.split(",")):
                rows[way, count] = {"way": way, "videos": count} | run_alone(WAYS[way], vectors)
                console.print(rows[way, count])
                _save(path, rows, known["delivery"])
        if delivery:
            old, new = kept / f"{delivery}.npy", kept / "delivery.npy"
            if not old.exists():
                make_vectors(delivery, old)
            make_delivery(old, new, 5000)
            known["delivery"] = run_alone(deliver, old, new)
            console.print(known["delivery"])
    found = _save(path, rows, known["delivery"])
    table = Table("way", "videos", "seconds", "peak MB", "recall", title="All pairs at 0.85", title_justify="left")
    for row in found:
        seconds = f"{row.get('join_s', 0):,.1f}{' *' if 'extrapolated' in row else ''}"
        table.add_row(row["way"], f"{row['videos']:,}", seconds, str(row.get("peak_mb")), str(row.get("recall", "")))
    console.print(table, "* extrapolated from a sample of rows")
    draw(found, ROOT / "docs" / "images" / "search.png")


def _save(path: Path, rows: dict[tuple[str, int], dict[str, Any]], delivery: Any) -> list[dict[str, Any]]:
    found = sorted(rows.values(), key=lambda row: (row["videos"], list(WAYS).index(row["way"])))
    exponents = {way: fit(found, way) for way in WAYS}
    results = json.dumps({"rows": found, "exponents": exponents, "delivery": delivery}, indent=1)
    write_text_atomically(path, results + "\n")
    return found


if __name__ == "__main__":
    main()
