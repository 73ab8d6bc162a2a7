"""What the notebooks call: each function is a step of one notebook on one run folder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedup_lib.steps.bar import open_bar as open_bar
    from dedup_lib.steps.bar import progress_on as progress_on
    from dedup_lib.steps.collections import manage_collections as manage_collections
    from dedup_lib.steps.existing import add_existing as add_existing
    from dedup_lib.steps.existing import load_known_urls as load_known_urls
    from dedup_lib.steps.extract import choose_resources as choose_resources
    from dedup_lib.steps.extract import extract_list as extract_list
    from dedup_lib.steps.extract import find_place as find_place
    from dedup_lib.steps.extract import jobs_path as jobs_path
    from dedup_lib.steps.extract import make_recipe as make_recipe
    from dedup_lib.steps.extracted_list import ExtractedList as ExtractedList
    from dedup_lib.steps.extracted_list import load_extracted_list as load_extracted_list
    from dedup_lib.steps.inputs import ListSource as ListSource
    from dedup_lib.steps.inputs import check_outputs as check_outputs
    from dedup_lib.steps.inputs import find_first_list as find_first_list
    from dedup_lib.steps.inputs import find_list as find_list
    from dedup_lib.steps.outputs import check_reading as check_reading
    from dedup_lib.steps.outputs import clean_by_evidence as clean_by_evidence
    from dedup_lib.steps.outputs import save_compared_pairs as save_compared_pairs
    from dedup_lib.steps.outputs import save_outputs as save_outputs
    from dedup_lib.steps.outputs import save_sweep as save_sweep
    from dedup_lib.steps.outputs import write_summary as write_summary
    from dedup_lib.steps.review import list_doubtful as list_doubtful
    from dedup_lib.steps.review import list_questions as list_questions
    from dedup_lib.steps.review import open_decisions as open_decisions
    from dedup_lib.steps.search import find_matches as find_matches
    from dedup_lib.steps.upload import upload_jobs as upload_jobs

_HOMES = {
    "open_bar": "bar",
    "ListSource": "inputs",
    "check_outputs": "inputs",
    "find_first_list": "inputs",
    "find_list": "inputs",
    "choose_resources": "extract",
    "extract_list": "extract",
    "find_place": "extract",
    "jobs_path": "extract",
    "make_recipe": "extract",
    "upload_jobs": "upload",
    "ExtractedList": "extracted_list",
    "load_extracted_list": "extracted_list",
    "progress_on": "bar",
    "add_existing": "existing",
    "load_known_urls": "existing",
    "find_matches": "search",
    "list_doubtful": "review",
    "list_questions": "review",
    "open_decisions": "review",
    "check_reading": "outputs",
    "clean_by_evidence": "outputs",
    "save_compared_pairs": "outputs",
    "save_outputs": "outputs",
    "save_sweep": "outputs",
    "write_summary": "outputs",
    "manage_collections": "collections",
}
"""The module of each name."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a name from `_HOMES` at its first use, so that nobody waits for modules that they do not use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
