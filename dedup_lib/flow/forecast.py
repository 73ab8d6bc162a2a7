"""What a run will take of this machine, told before it starts."""

from __future__ import annotations

from dedup_lib.features.pdq import PdqEncoder
from dedup_lib.flow.plan import RunPlan
from dedup_lib.report.words import describe_bytes
from dedup_lib.settings import ExtractSettings, UploadSettings
from dedup_lib.store.address import StoreAddress

LITE_BYTES_A_NUMBER = 10
"""Bytes of memory for each number of a stored vector: Milvus Lite keeps all rows of a collection in memory. Measured:
6 to 14 (docs/decisions/009-extraction.md)."""

_NUMBERS = {"pdq": PdqEncoder.dimension}
"""Numbers in a vector, where they are not the 512 of SSCD and of CLIP's base model."""

_TELL_FROM_BYTES = 1_000_000_000


def forecast_memory(plan: RunPlan, *, rows: int) -> str:
    """A note for the person when the vectors of a list with `rows` rows will take much memory. Otherwise empty."""
    extract = plan.settings.get(ExtractSettings.stage)
    if not isinstance(extract, ExtractSettings):
        return ""
    upload = plan.settings.get(UploadSettings.stage)
    vectors = extract.num_frames
    if extract.mode == "batch":
        if not isinstance(upload, UploadSettings):
            return ""
        vectors = vectors if upload.vectors == "frames" else 1
    if not StoreAddress.find(plan.run).is_local:
        return ""
    videos = len(range(rows)[extract.start : extract.end])
    size = videos * vectors * _NUMBERS.get(extract.encoder, 512) * LITE_BYTES_A_NUMBER
    if size < _TELL_FROM_BYTES:
        return ""
    fewer = "" if vectors == 1 else "; --set vectors=average in the profile batch stores one a video"
    return (
        f"Milvus Lite keeps all vectors in memory: about {describe_bytes(size)} for {videos:,} videos with "
        f"{vectors} each. A server holds them elsewhere (MILVUS_URI, docs/store.md){fewer}"
    )
