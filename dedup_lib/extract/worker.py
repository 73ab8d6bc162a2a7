"""What a worker process does with one URL: fetch, decode, prepare frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from dedup_lib.errors import VideoTrouble
from dedup_lib.extract.videos_read import KnownFiles, ReadVideo
from dedup_lib.features.encoder import Prepared
from dedup_lib.media.frames import use_one_thread
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.opening import open_video
from dedup_lib.records import Frames, Outcome, Recipe, Scan, Status, utc_now


def read_video(
    task: tuple[int, str],
    *,
    recipe: Recipe,
    scan: Scan,
    limits: FetchLimits,
    prepare: Callable[[Frames], Prepared],
    known: KnownFiles | None = None,
) -> ReadVideo:
    """Fetches, decodes and prepares the frames of one URL; does not decode a `known` file. Runs in a worker process and
    never raises."""
    # The process that hands out the URLs imports this module too, and saves 50 MB without the decoder.
    from dedup_lib.extract.decoding import decode_video

    use_one_thread()
    _, url = task
    start_s, started = time.monotonic(), utc_now()
    stream = None
    try:
        deadline = Deadline(limits.timeout_s)
        stream = open_video(url, limits=limits, deadline=deadline)
        same = known.find(url, stream) if known is not None else None
        read = same or decode_video(url, stream, recipe=recipe, scan=scan, deadline=deadline, prepare=prepare)
    except VideoTrouble as trouble:
        read = ReadVideo(
            outcome=Outcome(
                url=url,
                status=trouble.status,
                reason=trouble.reason,
                retryable=trouble.retryable,
                refused_by=trouble.refused_by,
            ),
            retry_after_s=trouble.retry_after_s,
        )
    except Exception as error:
        # A hostile file may cause any exception, and must fail only its own video.
        reason = f"reading it failed unexpectedly: {type(error).__name__}: {error}"
        read = ReadVideo(outcome=Outcome(url=url, status=Status.DECODE_ERROR, reason=reason[:500]))
    finally:
        fetched_bytes = stream.fetched_bytes if stream is not None else 0
        if stream is not None:
            stream.close()
    elapsed_s = round(time.monotonic() - start_s, 3)
    return replace(
        read, outcome=replace(read.outcome, fetched_bytes=fetched_bytes, elapsed_s=elapsed_s, started=started)
    )
