"""06: the pairs that the last search proposed, kept in the ledger so that another threshold searches nothing again."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.encoders import SWEEP_LOWS
from dedup_lib.groups import matcher, scored
from dedup_lib.groups.clean import outcome_of_row
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.matches import SearchDone, SearchPlan
from dedup_lib.match import index_search, vector_join, vector_table, visual_words, word_index
from dedup_lib.match.comparisons import digest_code, find_method
from dedup_lib.match.index_search import Audit
from dedup_lib.records import Pooling
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import SearchSettings, UploadSettings
from dedup_lib.steps.extracted_list import ExtractedList
from dedup_lib.store.address import StoreAddress

MODULES = (index_search, vector_join, vector_table, visual_words, word_index, scored, matcher)
"""The modules that propose pairs, besides those that compare them."""


@dataclass(frozen=True, kw_only=True)
class SavedSearch:
    """What a search found: its candidates, and the cosine of every compared pair."""

    store: str
    pooling: Pooling
    done: SearchDone | None
    expanded_queries: int
    pairs: NDArray[np.int32]
    """The rows of every compared pair, int32 (N, 2), in order."""
    cosines: NDArray[np.float64]
    is_candidate: NDArray[np.bool_]
    """Whether a pair was proposed; others were compared because one of the two is kept."""

    @classmethod
    def of(cls, compared: ComparedPairs, plan: SearchPlan) -> SavedSearch:
        """What is kept of a search that is done."""
        rows = sorted(compared.evidence)
        found = [compared.evidence[pair] for pair in rows]
        return cls(
            store=plan.store,
            pooling=plan.pooling,
            done=plan.search,
            expanded_queries=compared.expanded_queries,
            pairs=np.array(rows, np.int32).reshape(-1, 2),
            cosines=np.array([one.cosine for one in found], np.float64),
            is_candidate=np.array([pair in compared.candidates for pair in rows], np.bool_),
        )

    @property
    def candidates(self) -> set[tuple[int, int]]:
        """The candidates, as pairs of rows."""
        return {(first, second) for first, second in self.pairs[self.is_candidate].tolist()}

    @property
    def cosine_of(self) -> dict[tuple[int, int], float]:
        """The cosine of every compared pair of rows."""
        known = zip(self.pairs.tolist(), self.cosines.tolist(), strict=True)
        return {(first, second): cosine for (first, second), cosine in known}

    def to_bytes(self) -> bytes:
        facts = {
            "store": self.store,
            "pooling": self.pooling,
            "done": asdict(self.done) if self.done is not None else None,
            "expanded_queries": self.expanded_queries,
        }
        file = io.BytesIO()
        np.savez(
            file,
            facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
            **{name: getattr(self, name) for name in ("pairs", "cosines", "is_candidate")},
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> SavedSearch:
        """Raises ValueError for damaged data."""
        try:
            return cls._unpack(data)
        except (BadZipFile, EOFError, KeyError, TypeError) as error:
            raise ValueError(str(error)) from error

    @classmethod
    def _unpack(cls, data: bytes) -> SavedSearch:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            parts: dict[str, Any] = {name: file[name] for name in file.files}
        facts = json.loads(parts.pop("facts").tobytes())
        return cls(
            store=facts["store"],
            pooling=Pooling(facts["pooling"]),
            done=_make_done(facts["done"]) if facts["done"] is not None else None,
            expanded_queries=facts["expanded_queries"],
            **parts,
        )


def _make_done(known: Mapping[str, Any]) -> SearchDone:
    return SearchDone(**{**known, "audit": Audit(**known["audit"]) if known["audit"] is not None else None})


def name_search(run: RunFolder, listed: ExtractedList, settings: SearchSettings, address: StoreAddress) -> str:
    """A hash of all that decides which pairs a search proposes; "" for a search that is not kept, because it depends on
    what other runs hold.

    What the ledger holds about the videos is no part of it: a ledger forgets its search when it takes a new video.
    """
    if listed.existing or listed.recipe is None or settings.decide != "evidence":
        return ""
    digest = hashlib.sha256()
    about = {
        "code": [find_method(), digest_code((sys.modules[__name__], *MODULES))],
        "recipe": listed.recipe.key,
        "floor": SWEEP_LOWS[listed.recipe.encoder],
        "store": str(address),
        # An upload writes vectors that the ledger knows nothing of.
        "uploaded": run.read_record(UploadSettings.stage),
        **{name: getattr(settings, name) for name in ("collection", "search", "ann", "max_pairs")},
    }
    digest.update(json.dumps(about).encode())
    for url in listed.own_urls:
        digest.update(f"\n{outcome_of_row(url, listed.outcomes).status} {url}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
