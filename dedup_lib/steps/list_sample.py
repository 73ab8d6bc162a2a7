"""07: a sample of a list, fetched to a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from dedup_lib.errors import ListError, RunFolderError, SettingError, VideoTrouble
from dedup_lib.evaluate.threshold import half_of
from dedup_lib.evaluate.variants import Source, explain_clips
from dedup_lib.extract.worker_pool import count_workers
from dedup_lib.lists.urls import is_web_url
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.opening import open_video
from dedup_lib.records import video_key
from dedup_lib.run.files import write_file_atomically, writing

_READ_BYTES = 1024 * 1024

Advance = Callable[[int], object]
"""Called with the number of items newly done."""


def sample_list(
    urls: Sequence[str], *, count: int, seed: int, leave_out: Collection[str] = (), kept: Collection[str] | None = None
) -> list[str]:
    """Sample `count` different URLs of a list, in list order. A shorter list gives all its URLs.

    The two halves (`threshold.half_of`) contribute equally, as far as they have enough URLs. With `kept`, only URLs in
    `kept` are sampled. A larger sample contains the smaller ones. Raises SettingError when `leave_out` names a URL
    that is not in the list.
    """
    distinct = list(dict.fromkeys(url for url in urls if url.strip()))
    for url in leave_out:
        if url not in distinct:
            raise SettingError("leave_out", url, "it is not a URL of the list")
    wanted = None if kept is None else set(kept)
    ranked = sorted(
        (url for url in distinct if url not in leave_out and (wanted is None or url in wanted)),
        key=lambda url: hashlib.sha256(f"{seed} {url}".encode("utf-8", "surrogatepass")).digest(),
    )
    halves = ([url for url in ranked if half_of(url) == half] for half in (0, 1))
    in_turn = [url for both in zip_longest(*halves) for url in both if url is not None]
    chosen = set(in_turn[:count])
    return [url for url in distinct if url in chosen]


def describe_sample(sampled: int, *, rows: int, kept: Collection[str] | None) -> str:
    """Say in words how many rows are sampled, and from which list."""
    if kept is None:
        return f"{sampled:,} of {rows:,} rows are sampled."
    return f"{sampled:,} of the {len(kept):,} rows of the clean list are sampled; the list has {rows:,}."


@dataclass(frozen=True, kw_only=True)
class ListSample:
    """The sampled videos as local files, by URL, and the reasons why the others cannot be used, by URL."""

    paths: Mapping[str, Path]
    failures: Mapping[str, str]

    def as_table(self) -> pd.DataFrame:
        """One row per URL. URLs that cannot be used come last."""
        rows = [(url, "yes", "") for url in self.paths] + [(url, "no", reason) for url, reason in self.failures.items()]
        return pd.DataFrame(rows, columns=["url", "used", "reason"])

    def sources(self) -> list[Source]:
        """The clips to make variants of. Raises ListError for fewer than two."""
        if len(self.paths) < 2:
            example = next((f" ({url}: {reason})" for url, reason in self.failures.items()), "")
            raise ListError(
                f"at least two videos are needed, and {len(self.paths)} of the {len(self.paths) + len(self.failures)} "
                f"sampled can be used{example}: raise sample_size, set another seed, or, if these are all, give a list "
                "with more videos that can be read"
            )
        paths = list(self.paths.values())
        others = [*paths[1:], paths[0]]
        return [
            Source(name=url, path=path, other_path=other)
            for (url, path), other in zip(self.paths.items(), others, strict=True)
        ]


def fetch_sample(
    urls: Sequence[str],
    *,
    folder: Path,
    limits: FetchLimits,
    workers: int | None,
    progress: Advance = lambda count: None,
) -> ListSample:
    """Save complete videos into a folder. `limits` apply to each video.

    A video that is in the folder is not fetched again. A local file is used in its place. A video that cannot be
    fetched goes to the failures of the sample. Raises RunFolderError when the disk takes no more.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=workers or count_workers()) as pool:
        fetched = []
        for one in pool.map(partial(_fetch, folder=folder, limits=limits), urls):
            fetched.append(one)
            progress(1)
    done = dict(zip(urls, fetched, strict=True))
    return ListSample(
        paths={url: one for url, one in done.items() if isinstance(one, Path)},
        failures={url: one for url, one in done.items() if isinstance(one, str)},
    )


def _fetch(url: str, *, folder: Path, limits: FetchLimits) -> Path | str:
    """The path of the video, or the reason why there is none."""
    path = folder / video_key(url) if is_web_url(url) else Path(url).absolute()
    if is_web_url(url) and path.exists():
        return path
    try:
        with closing(open_video(url, limits=limits, deadline=Deadline(limits.timeout_s))) as stream:
            if is_web_url(url):
                # Of a playlist, the segments up to where another recording begins: joined, they are a file.
                _save(iter(partial(stream.read, _READ_BYTES), b""), path)
    except VideoTrouble as trouble:
        return str(trouble)
    except RunFolderError:
        raise
    except Exception as error:
        # Whatever error a hostile server causes, it concerns only this video.
        return f"fetching it failed unexpectedly: {type(error).__name__}: {error}"[:500]
    return path


def _save(parts: Iterator[bytes], path: Path) -> None:
    def write(scratch: Path) -> None:
        with scratch.open("wb") as file:
            file.writelines(parts)

    write_file_atomically(path, write)


def check_sample(sample: ListSample, *, workers: int | None = None) -> ListSample:
    """The sample without files that cannot be decoded, that show one flat colour, or that equal an earlier file."""
    failures = dict(sample.failures)
    first_of: dict[bytes, str] = {}
    for url, path in sample.paths.items():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        if first_of.setdefault(digest, url) != url:
            failures[url] = f"the same file as {first_of[digest]}"
    distinct = list(first_of.values())
    reasons = explain_clips([sample.paths[url] for url in distinct], workers=workers)
    failures |= {url: reason for url, reason in zip(distinct, reasons, strict=True) if reason}
    return ListSample(paths={url: sample.paths[url] for url in distinct if url not in failures}, failures=failures)
