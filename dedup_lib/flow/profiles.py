"""The parameters of a run: those of a profile, and what the command line changes."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dedup_lib.errors import SettingError
from dedup_lib.run.paths import find_inputs, find_project_root, list_profiles, resolve_path
from dedup_lib.settings import SETTINGS, parameter_types

_TEXTS = frozenset(name for cls in SETTINGS.values() for name, hint in parameter_types(cls).items() if hint is str)


def load_profile(profile: str) -> dict[str, Any]:
    """The parameters of a profile. `profile` is the name of a profile in `params/`, or the path of a YAML file.

    Raises SettingError when there is no such file, or when it is no flat mapping.
    """
    if profile.endswith((".yaml", ".yml")):
        path = next(iter(find_inputs(profile)), resolve_path(profile))
    else:
        path = find_project_root() / "params" / f"{profile}.yaml"
    if not path.is_file():
        raise SettingError("profile", profile, _describe_missing_profile(profile, path))
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingError("profile", profile, f"{path} cannot be read ({error.strerror}): make it readable") from None
    except yaml.MarkedYAMLError as error:
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if (mark := error.problem_mark) else ""
        raise SettingError("profile", profile, f"{path.name} is not valid YAML{place}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SettingError("profile", profile, f"{path.name} is not valid YAML: {reason}") from None
    if not isinstance(values, dict) or any(isinstance(value, dict) for value in values.values()):
        raise SettingError("profile", profile, f"{path.name} must consist of lines `parameter: value`, without nesting")
    return {str(name): value for name, value in values.items()}


def _describe_missing_profile(profile: str, path: Path) -> str:
    params_dir = find_project_root() / "params"
    names = list_profiles()
    if not names:
        return (
            f"{find_project_root()} is not inside a project folder, which has notebooks/ and params/: cd to one first"
        )
    known = f"he profiles in params/ are {', '.join(names)}"
    if "://" in profile:
        remedy = "a list is downloaded first, and then given as in run direct --set input_csv=LIST.csv --run NAME"
        return f"it is an address, not a profile; {remedy}. T{known}"
    is_file = any(found.is_file() for found in find_inputs(profile))
    if is_file or Path(profile).suffix not in ("", ".", ".yaml", ".yml"):
        given = shlex.quote(f"input_csv={profile}")
        run_name = shlex.quote(Path(profile.removesuffix(".gz")).stem)
        return (
            f"it is no profile; a list is given beside one, as in run direct --set {given} --run {run_name}. T{known}"
        )
    missing = path.name if path.parent == params_dir else path
    near = difflib.get_close_matches(Path(profile).stem, names, n=1)
    return f"there is no file {missing}; " + (f"did you mean {near[0]}? T{known}" if near else f"t{known}")


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` texts. Each value is read as YAML: `0.9` is a number, `[a, b]` a list, `null` is None.

    The value of a text parameter is used unchanged, because names of files and collections may look like anything.
    Raises SettingError for a text without `=`.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError("--set", text, "write it as name=value, such as --set min_score=0.8")
        values[name.strip()] = value if name.strip() in _TEXTS else _read_value(value)
    return values


def _read_value(text: str) -> Any:
    try:
        return yaml.safe_load(text) if text.strip() else ""
    except (yaml.YAMLError, ValueError):
        return text


def apply_overrides(profile: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A profile with the parameters that a person sets in addition. Where these name another encoder, the profile's
    model is dropped too, because it belongs to the profile's encoder."""
    kept = dict(profile)
    if {"encoder"} <= kept.keys() & overrides.keys() and kept["encoder"] != overrides["encoder"]:
        kept.pop("model", None)
    return kept | dict(overrides)
