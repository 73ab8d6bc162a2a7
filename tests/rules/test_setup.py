"""Setting up: the environment that `make setup` prepares, the lock, and what cleaning leaves alone."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
NO_LIBGL = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.fixture(scope="module")
def setup_venv() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_venv", ROOT / "tools" / "setup_venv.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_requirements(name: str) -> dict[str, Requirement]:
    """The packages named in a requirements file or the lock, by canonical name."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


# --- what the script decides


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4), (4, 0, 0)])
def test_recent_python_is_accepted(setup_venv: ModuleType, version: tuple[int, ...]) -> None:
    assert setup_venv.python_trouble(version) == ""


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 6, 8), (2, 7, 18)])
def test_old_python_is_named_with_the_remedy(setup_venv: ModuleType, version: tuple[int, ...]) -> None:
    trouble = setup_venv.python_trouble(version)
    assert ".".join(map(str, version)) in trouble
    assert "3.11 or newer" in trouble
    assert "make setup PYTHON=" in trouble


@pytest.mark.parametrize(
    ("traceback", "library"),
    [
        (f"Traceback (most recent call last):\n  File\n{NO_LIBGL}\n", "libGL.so.1"),
        (NO_LIBGL.replace("libGL.so.1", "libgthread-2.0.so.0"), "libgthread-2.0.so.0"),
        ("ModuleNotFoundError: No module named 'cv2'", ""),
        ("ImportError: numpy.core.multiarray failed to import", ""),
        ("", ""),
    ],
)
def test_only_a_missing_library_asks_for_the_headless_build(
    setup_venv: ModuleType, traceback: str, library: str
) -> None:
    assert setup_venv.missing_library(traceback) == library


def test_headless_takes_the_place_of_opencv_and_of_nothing_else(setup_venv: ModuleType) -> None:
    given = "numpy>=2\nopencv-python>=5,<6  # frames\nopencv-python-headless==5\nopencv-python==5.0\n"
    assert setup_venv.without_display(given) == (
        "numpy>=2\nopencv-python-headless>=5,<6  # frames\nopencv-python-headless==5\nopencv-python-headless==5.0\n"
    )


def test_lock_is_sorted_and_without_local_versions(setup_venv: ModuleType) -> None:
    assert setup_venv.locked_versions("torch==2.13.0+cpu\nav==18.1.0\nPillow==13.0.0\n") == (
        "av==18.1.0\nPillow==13.0.0\ntorch==2.13.0\n"
    )


# --- the script at work: a real environment, real pip, and wheels made here in place of OpenCV


def make_wheel(folder: Path, name: str, version: str, cv2_source: str) -> None:
    """A wheel whose only content is a module cv2."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("cv2/__init__.py", cv2_source)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"cv2/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def test_opencv_without_display_libraries(tmp_path: Path) -> None:
    """The headless build of the locked version comes in, and later runs keep it."""
    project, wheels = tmp_path / "project", tmp_path / "wheels"
    (project / "tools").mkdir(parents=True)
    wheels.mkdir()
    shutil.copy(ROOT / "tools" / "setup_venv.py", project / "tools")
    (project / "requirements.txt").write_text("opencv-python>=1,<2\n", encoding="utf-8")
    for name in ("requirements-ray.txt", "requirements-pages.txt"):
        (project / name).write_text("# what dev needs too\n", encoding="utf-8")
    (project / "requirements-dev.txt").write_text("-r requirements.txt\n-r requirements-ray.txt\n", encoding="utf-8")
    (project / "requirements-weights.txt").write_text("# none\n", encoding="utf-8")
    (project / "constraints.txt").write_text("opencv-python==1.0\n", encoding="utf-8")
    for version in ("1.0", "1.1"):
        make_wheel(wheels, "opencv-python", version, f"raise ImportError({NO_LIBGL.partition(': ')[2]!r})\n")
        make_wheel(wheels, "opencv-python-headless", version, f"__version__ = {version!r}\n")
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def installed() -> list[str]:
        return sorted(path.name for path in project.glob(".venv/lib/python*/site-packages/opencv*.dist-info"))

    said = {kind: run(sys.executable, "tools/setup_venv.py", kind) for kind in ("runtime", "dev")}
    assert "libGL.so.1 is missing" in said["runtime"]
    assert "libGL" not in said["dev"]
    assert installed() == ["opencv_python_headless-1.0.dist-info"]
    assert run(".venv/bin/python", "-c", "import cv2; print(cv2.__version__)").strip() == "1.0"

    before = (project / ".venv" / "pyvenv.cfg").stat().st_mtime_ns
    run(sys.executable, "tools/setup_venv.py", "runtime")
    assert installed() == ["opencv_python_headless-1.0.dist-info"]
    assert (project / ".venv" / "pyvenv.cfg").stat().st_mtime_ns == before, "the environment was made anew"


# --- the lists of packages

NEEDED_TO_RUN = ("requirements.txt", "requirements-ray.txt", "requirements-pages.txt")
REQUIREMENT_FILES = (*NEEDED_TO_RUN, "requirements-dev.txt")


@pytest.mark.parametrize("name", REQUIREMENT_FILES)
def test_lock_holds_every_requirement_within_its_range(name: str) -> None:
    locked = read_requirements("constraints.txt")
    for package, requirement in read_requirements(name).items():
        assert package in locked, f"{package} of {name} is not in constraints.txt: run `make lock`"
        (pin,) = locked[package].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), f"{package}: {pin} lies outside {requirement.specifier}"


@pytest.mark.parametrize("name", REQUIREMENT_FILES)
def test_every_requirement_is_bounded_and_says_its_purpose(name: str) -> None:
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if re.match(r"[A-Za-z]", line):
            assert re.fullmatch(r"\S+>=[\d.]+,<[\d.]+ +# .+", line), f"{name}: {line}"


def test_lock_suits_every_machine() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"[+@/]|--", re.sub(r"^#.*$", "", text, flags=re.MULTILINE)), (
        "a local build, an address or a path"
    )


def test_dependencies_are_listed_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not {"dependencies", "optional-dependencies"} & (project.keys() | set(project["dynamic"]))


def test_every_imported_package_is_a_requirement() -> None:
    imported = set()
    for path in (ROOT / "dedup_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    distributions = packages_distributions()
    listed = {name for file in NEEDED_TO_RUN for name in read_requirements(file)}
    for package in sorted(imported - set(sys.stdlib_module_names) - {"dedup_lib"}):
        owners = {canonicalize_name(name).removesuffix("-headless") for name in distributions.get(package, [package])}
        assert owners & listed, f"dedup_lib imports {package}, which no requirements file lists"


# --- make


@pytest.fixture
def make() -> str:
    found = shutil.which("make")
    if not found:
        pytest.skip("needs GNU make")
    return found


def test_make_lists_every_target(make: str) -> None:
    said = subprocess.run([make, "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    declared = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert declared
    assert sorted(re.findall(r"^  make (\S+) ", said, re.MULTILINE)) == sorted(declared.group(1).split())


def test_make_clean_leaves_results_and_secrets(make: str, tmp_path: Path) -> None:
    kept = ["outputs/mylist/FINAL_RESULT.csv", ".env", "notebooks/01_decode.ipynb", "dedup_lib/__init__.py"]
    gone = [".venv/bin/python", ".ruff_cache/x", "dedup_lib/__pycache__/x.pyc", "dedup_lib.egg-info/x"]
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("tests", "tools"):
        (tmp_path / folder).mkdir()
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run([make, "-s", "clean"], cwd=tmp_path, check=True)
    assert [name for name in kept + gone if (tmp_path / name).exists()] == kept


def test_make_run_asks_for_a_profile(make: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run([make, "-s", "run"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "make run PARAMS=params/" in done.stderr
