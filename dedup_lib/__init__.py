"""Clean a list of video URLs: every video once, each removal explained, nothing lost.

What a notebook or a script needs stands here; docs/architecture.md shows where everything else lies.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dedup_lib.lazy import load_at_use

if TYPE_CHECKING:
    from dedup_lib import steps as steps
    from dedup_lib.features.encoders import load_encoder as load_encoder
    from dedup_lib.groups.matches import Matches as Matches
    from dedup_lib.groups.pairs import load_pairs as load_pairs
    from dedup_lib.lists.tables import find_url_column as find_url_column
    from dedup_lib.lists.tables import load_list as load_list
    from dedup_lib.lists.tables import read_list as read_list
    from dedup_lib.lists.tables import save_table as save_table
    from dedup_lib.match.evidence import MatchThresholds as MatchThresholds
    from dedup_lib.match.evidence import Verdict as Verdict
    from dedup_lib.match.verify import compare_pair as compare_pair
    from dedup_lib.records import Status as Status
    from dedup_lib.report import overview as overview
    from dedup_lib.report import plots as plots
    from dedup_lib.report.pictures import load_strips as load_strips
    from dedup_lib.report.tables import describe_record as describe_record
    from dedup_lib.report.tables import shown_table as shown_table
    from dedup_lib.run.folder import RunFolder as RunFolder
    from dedup_lib.settings import CalibrateSettings as CalibrateSettings
    from dedup_lib.settings import CleanJobsSettings as CleanJobsSettings
    from dedup_lib.settings import CollectionsSettings as CollectionsSettings
    from dedup_lib.settings import DecodeSettings as DecodeSettings
    from dedup_lib.settings import DedupeUrlsSettings as DedupeUrlsSettings
    from dedup_lib.settings import ExtractSettings as ExtractSettings
    from dedup_lib.settings import SearchSettings as SearchSettings
    from dedup_lib.settings import UploadSettings as UploadSettings
    from dedup_lib.ui.explorer import ThresholdExplorer as ThresholdExplorer
    from dedup_lib.ui.queue import ReviewQueue as ReviewQueue

__version__ = "0.1.0"

# Read when pandas loads Arrow, in which Milvus Lite works too. Arrow's own allocator keeps what it once had: a store of
# 6,000 videos with eight frames takes 480 MB with it, and 270 without.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

__all__, __getattr__ = load_at_use(
    __name__,
    {
        "settings": "CalibrateSettings CleanJobsSettings CollectionsSettings DecodeSettings DedupeUrlsSettings "
        "ExtractSettings SearchSettings UploadSettings",
        "run.folder": "RunFolder",
        "records": "Status",
        "report.tables": "describe_record shown_table",
        "lists.tables": "find_url_column load_list read_list save_table",
        "features.encoders": "load_encoder",
        "match.evidence": "MatchThresholds Verdict",
        "match.verify": "compare_pair",
        "groups.matches": "Matches",
        "groups.pairs": "load_pairs",
        "report.plots": "plots",
        "report.overview": "overview",
        "steps": "steps",
        "report.pictures": "load_strips",
        "ui.queue": "ReviewQueue",
        "ui.explorer": "ThresholdExplorer",
    },
)
