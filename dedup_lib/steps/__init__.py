"""What the notebooks call: each function is a step of one notebook on one run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup_lib.lazy import load_at_use

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

__all__, __getattr__ = load_at_use(
    __name__,
    {
        "bar": "open_bar progress_on",
        "inputs": "ListSource check_outputs find_first_list find_list",
        "extract": "choose_resources extract_list find_place jobs_path make_recipe",
        "upload": "upload_jobs",
        "extracted_list": "ExtractedList load_extracted_list",
        "existing": "add_existing load_known_urls",
        "search": "find_matches",
        "review": "list_doubtful list_questions open_decisions",
        "outputs": "check_reading clean_by_evidence save_compared_pairs save_outputs save_sweep write_summary",
        "collections": "manage_collections",
    },
)
