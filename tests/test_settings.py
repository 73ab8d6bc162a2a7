"""Parameters: what is allowed, and how a value that is not is refused."""

from __future__ import annotations

from typing import Any, get_args, get_origin

import pytest

from dedup_lib.errors import SettingError
from dedup_lib.settings import (
    SETTINGS,
    CollectionsSettings,
    ExtractSettings,
    IndexTuning,
    NotebookSettings,
    Range,
    describe_type,
    parameter_types,
)

GOOD: dict[str, dict[str, Any]] = {
    "08_collections": {
        "run_dir": "outputs/x",
        "action": "list",
        "store": "auto",
        "collection": "",
        "new_name": "d",
        "schema": "video_frames",
        "encoder": "pdq",
        "model": "",
        "num_frames": 3,
        "frame_span": "spread",
    },
    "01_decode": {"run_dir": "outputs/x", "input_csv": "ads.csv", "url_column": "", "output_csv": ""},
    "02_dedupe_urls": {
        "run_dir": "outputs/x",
        "input_csv": "",
        "url_column": "",
        "output_csv": "",
        "report_csv": "",
        "ignore_path_case": False,
        "drop_query_parameters": ["token"],
        "existing_runs": ["outputs/ads"],
    },
    "03_extract": {
        "run_dir": "outputs/x",
        "input_csv": "",
        "url_column": "",
        "mode": "direct",
        "jobs_dir": "batch_outputs",
        "store": "auto",
        "collection": "videos",
        "num_frames": 3,
        "frame_span": "spread",
        "scan_step_s": 0.25,
        "encoder": "pdq",
        "model": "",
        "batch_size": 32,
        "start": 0,
        "end": None,
        "overwrite": False,
        "workers": 4,
        "most_a_host": 4,
        "retries": 1,
        "retry_failed": True,
        "engine": "local",
        "timeout_s": 30,
        "max_bytes": 1000,
        "allow_private_addresses": False,
        "allow_local_paths": False,
        "resolve_pages": False,
    },
    "04_clean_jobs": {"run_dir": "outputs/x", "jobs_dir": "batch_outputs", "dry_run": True},
    "05_upload": {
        "run_dir": "outputs/x",
        "jobs_dir": "batch_outputs",
        "store": "auto",
        "collection": "videos",
        "vectors": "frames",
        "overwrite": False,
    },
    "06_search_and_clean": {
        "run_dir": "outputs/x",
        "store": "auto",
        "collection": "videos",
        "decide": "evidence",
        "min_score": 0.5,
        "review_from": 0.03,
        "excerpts": "remove",
        "versions": "review",
        "cosine_thresh": None,
        "against_existing": False,
        "existing_runs": [],
        "search": "auto",
        "max_pairs": 1000,
        "ann": ["nlist:128", "nprobe:32"],
        "keep": "best",
        "auto_clean": True,
        "fail_above": 0.9,
        "decisions_csv": "",
        "unique_csv": "",
        "report_csv": "",
        "invalid_csv": "",
        "sweep_low": None,
    },
    "07_calibrate": {
        "run_dir": "outputs/x",
        "input_csv": "",
        "url_column": "",
        "sample_size": 12,
        "seed": 0,
        "leave_out": [],
        "kinds": ["mirror"],
        "encoder": "pdq",
        "model": "",
        "num_frames": 3,
        "frame_span": "spread",
        "decide": "evidence",
        "wanted_precision": 0.995,
        "collection_size": None,
        "workers": 4,
        "timeout_s": 30,
        "max_bytes": 1000,
        "allow_private_addresses": False,
        "allow_local_paths": False,
        "params_yaml": "",
    },
}
FIELDS = [(stage, name) for stage, cls in SETTINGS.items() for name in parameter_types(cls)]


def make(stage: str, **changes: Any) -> NotebookSettings:
    return SETTINGS[stage](**GOOD[stage] | changes)


def refuse(stage: str, name: str, value: Any) -> str:
    with pytest.raises(SettingError) as caught:
        make(stage, **{name: value})
    assert caught.value.name == name
    assert caught.value.value is value
    message = str(caught.value)
    assert message.startswith(f"{name} = {value!r} cannot be used: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("stage", SETTINGS)
def test_settings_of_every_notebook(stage: str) -> None:
    settings = make(stage)
    assert settings.stage == stage
    assert settings.as_record() == GOOD[stage]


@pytest.mark.parametrize(("stage", "name"), FIELDS)
def test_a_value_of_another_kind_is_refused(stage: str, name: str) -> None:
    hint = parameter_types(SETTINGS[stage])[name]
    for value in (object(), {"a": 1}, (), b"x", [1], float("nan"), float("inf")):
        assert f"it must be {describe_type(hint)}" in refuse(stage, name, value)


@pytest.mark.parametrize(
    ("stage", "name"),
    [(s, n) for s, n in FIELDS if n not in ("cosine_thresh", "sweep_low", "end", "collection_size", "workers")],
)
def test_nothing_is_no_value(stage: str, name: str) -> None:
    refuse(stage, name, None)


CHOICES = [(s, n) for s, n in FIELDS if "one of" in describe_type(parameter_types(SETTINGS[s])[n])]


@pytest.mark.parametrize(("stage", "name"), CHOICES)
def test_a_choice_names_what_there_is_to_choose(stage: str, name: str) -> None:
    choices = get_args(parameter_types(SETTINGS[stage])[name])
    message = refuse(stage, name, "nosuch")
    assert all(repr(choice) in message for choice in choices)
    refuse(stage, name, choices[0].upper())
    for choice in choices:
        named = {"collection": "c"} if "collection" in GOOD[stage] else {}
        assert getattr(make(stage, **named, **{name: choice}), name) == choice


def range_of(hint: Any) -> Range | None:
    if get_origin(hint) is not None:
        return next((r for part in get_args(hint) if (r := part if isinstance(part, Range) else range_of(part))), None)
    return None


RANGED = [(s, n, r) for s, n in FIELDS if (r := range_of(parameter_types(SETTINGS[s])[n])) is not None]


@pytest.mark.parametrize(("stage", "name", "allowed"), RANGED)
def test_a_number_stays_in_its_range(stage: str, name: str, allowed: Range) -> None:
    for end, step in ((allowed.low, -1), (allowed.high, 1)):
        if end is not None:
            assert getattr(make(stage, **{name: end}), name) == end
            assert str(allowed) in refuse(stage, name, type(end)(end + step))
    refuse(stage, name, True)
    refuse(stage, name, str(allowed.low))


def test_every_number_has_a_range() -> None:
    numbers = {n for s, n in FIELDS if "number" in describe_type(parameter_types(SETTINGS[s])[n])}
    assert numbers == {name for _, name, _ in RANGED}


@pytest.mark.parametrize(
    "name", [n for s, n in FIELDS if s == "03_extract" and parameter_types(SETTINGS[s])[n] is bool] + ["overwrite"]
)
@pytest.mark.parametrize("value", [0, 1, "true", "false", ""])
def test_only_true_and_false_are_true_and_false(name: str, value: Any) -> None:
    assert "it must be true or false" in refuse("03_extract", name, value)


def test_a_whole_number_serves_as_a_number_and_no_number_as_a_whole_one() -> None:
    assert make("03_extract", timeout_s=5).as_record()["timeout_s"] == 5
    for value in (3.0, 2.5, 1e300):
        assert "a whole number" in refuse("03_extract", "workers", value)
    refuse("03_extract", "timeout_s", 10**400)
    assert make("03_extract", max_bytes=10**15).as_record()["max_bytes"] == 10**15


def test_a_list_of_texts() -> None:
    assert make("02_dedupe_urls", drop_query_parameters=[]).as_record()["drop_query_parameters"] == []
    for value in ("token", ["a", 1], ["a", None], None):
        assert "a list of text" in refuse("02_dedupe_urls", "drop_query_parameters", value)


@pytest.mark.parametrize("run_dir", ["", "  ", "\t"])
def test_a_run_has_a_folder(run_dir: str) -> None:
    assert "name the folder of this run" in refuse("01_decode", "run_dir", run_dir)


def test_rules_between_parameters() -> None:
    with pytest.raises(SettingError, match=r"end = 4 .* it must not be less than start = 5"):
        make("03_extract", start=5, end=4)
    assert isinstance(make("03_extract", start=5, end=5), ExtractSettings)
    for given in (["nprobe"], ["n probe:1"], ["nlist:128", ":"], ["nprobe:"]):
        with pytest.raises(SettingError, match=r"ann = .* as name:value, such as nprobe:64"):
            make("06_search_and_clean", ann=given)
    for given in (["nprobe:x"], ["nprobe:-1"], ["top_k:0.5"]):
        with pytest.raises(SettingError, match=r"ann = .* takes a whole number"):
            make("06_search_and_clean", ann=given)
    for given in (["min_recall:much"], ["min_recall:1.1"], ["top_k:1"], ["top_k:16385"], ["audit_videos:0"]):
        with pytest.raises(SettingError, match=r"ann = .* takes a "):
            make("06_search_and_clean", ann=given)
    for action in ("create", "drop"):
        with pytest.raises(SettingError, match=f"collection = '' .* {action} needs the name"):
            make("08_collections", action=action)
    for action in ("ping", "list"):
        assert isinstance(make("08_collections", action=action), CollectionsSettings)


@pytest.mark.parametrize("stage", SETTINGS)
def test_settings_come_out_of_a_notebooks_globals(stage: str) -> None:
    namespace = {"__name__": "__main__", "pd": object(), "settings": None, **GOOD[stage]}
    assert SETTINGS[stage].of(namespace) == make(stage)
    for name in GOOD[stage]:
        rest = {key: value for key, value in namespace.items() if key != name}
        with pytest.raises(SettingError, match=f"{name} = None .* missing from the parameters cell of {stage}"):
            SETTINGS[stage].of(rest)


@pytest.mark.parametrize("stage", SETTINGS)
def test_a_name_that_papermill_sets_and_no_notebook_knows(stage: str) -> None:
    namespace = {"In": ["", 'run_dir = "outputs/x"', "# Parameters\nxyzzy = [1]"], "xyzzy": [1]} | GOOD[stage]
    with pytest.raises(SettingError, match=r"xyzzy = \[1\] cannot be used: no notebook has a parameter .*; docs/ref"):
        SETTINGS[stage].of(namespace)
    namespace["In"] = [*namespace["In"], "later = 1"]
    with pytest.raises(SettingError, match="xyzzy"):
        SETTINGS[stage].of(namespace)


def test_some_of_the_parameters_can_be_checked_alone() -> None:
    ExtractSettings.check_given({})
    ExtractSettings.check_given({"workers": 2, "nosuch": 1})
    with pytest.raises(SettingError, match="workers = 0"):
        ExtractSettings.check_given({"workers": 0})


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        make("01_decode").run_dir = "other"  # type: ignore[misc]  # that it is refused is the point


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (Range(), "of any size"),
        (Range(1), "of at least 1"),
        (Range(high=0.5), "of at most 0.5"),
        (Range(-1, 1), "from -1 to 1"),
    ],
)
def test_a_range_in_words(allowed: Range, words: str) -> None:
    assert str(allowed) == words


def test_an_index_is_tuned_by_names_and_values() -> None:
    assert IndexTuning.parse([]) == IndexTuning()
    tuned = IndexTuning.parse(["nlist:512", " nprobe : 64 ", "min_recall:0.9", "audit_videos:5"])
    assert (dict(tuned.build), dict(tuned.search)) == ({"nlist": 512}, {"nprobe": 64})
    assert (tuned.index, tuned.top_k, tuned.audit_videos, tuned.min_recall) == ("IVF_FLAT", 50, 5, 0.9)
    other = IndexTuning.parse(["index:HNSW", "M:16", "efConstruction:200", "ef:100", "top_k:20"])
    assert (dict(other.build), dict(other.search)) == ({"M": 16, "efConstruction": 200}, {"ef": 100})
    assert (other.index, other.top_k) == ("HNSW", 20)
