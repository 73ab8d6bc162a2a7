from __future__ import annotations

from dataclasses import replace

from dedup_lib.groups.matches import SearchDone, SearchPlan
from dedup_lib.match.index_search import Audit
from dedup_lib.records import Pooling, Recipe
from dedup_lib.report.about_run import describe_comparison, describe_plan

PLAN = SearchPlan(
    store="Milvus Lite, milvus.db",
    collection="videos",
    pooling=Pooling.FRAMES,
    recipe=Recipe(encoder="sscd", model="distilled", num_frames=8, frame_span="spread", preprocessing=1),
    measure="score",
    threshold=0.5,
    review_from=0.03,
    versions="review",
    sweep_low=0.03,
    floor=0.25,
    search=SearchDone(method="exact", why="all with all takes about 1 s on 2 cores", on="cpu"),
)


def test_how_videos_were_compared_stands_there_in_words() -> None:
    assert describe_comparison(PLAN.as_record()) == {
        "vectors in": "Milvus Lite, milvus.db, collection videos",
        "encoder": "sscd distilled, 8 frames a video, spread over the film",
        "stored": "a vector a frame",
        "searched": "exactly: all with all takes about 1 s on 2 cores",
        "candidates": "pairs with a cosine of at least 0.25",
        "copies": "score of at least 0.5",
        "for a person": "score from 0.03 on",
        "versions": "a person decides",
    }


def test_an_index_says_how_much_it_found() -> None:
    audit = Audit(videos=200, pairs=1234, found=1222, recall=1222 / 1234)
    done = SearchDone(method="ann", why="as asked", on="Milvus Lite", index="HNSW", audit=audit)
    said = describe_comparison(replace(PLAN, search=done).as_record())
    assert said["searched"] == "by the index HNSW of the store: as asked"
    assert said["found by the index"] == "99.0% of 1,234 pairs"


def test_a_cosine_alone_has_no_words_of_a_score() -> None:
    said = describe_comparison(replace(PLAN, measure="cosine", threshold=0.85, search=None).as_record())
    assert said["copies"] == "cosine of at least 0.85"
    assert not {"candidates", "for a person", "versions", "searched"} & set(said)


def test_the_table_of_a_notebook_has_the_same_words() -> None:
    table = describe_plan(PLAN)
    assert dict(zip(table.index, table[""], strict=True)) == describe_comparison(PLAN.as_record())
    assert describe_comparison({}) == {}
