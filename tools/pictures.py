"""Run the demo and write the pictures of the README: docs/images/*.png.

    python tools/pictures.py          (make pictures)

Needs chromium, and what the tests need: the browser and the servers are those of tests/helpers/browser.py.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from PIL import Image
from rich.console import Console, RenderableType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from browser import Visit, jupyterlab, open_browser, open_visit, run_all, serving  # noqa: E402
from playwright.sync_api import Browser, Locator  # noqa: E402

from dedup_lib.run.folder import RunFolder  # noqa: E402
from dedup_lib.run.status import State, read_progress  # noqa: E402
from dedup_lib.settings import ExtractSettings  # noqa: E402
from dedup_lib.ui.terminal import draw_progress  # noqa: E402

IMAGES = ROOT / "docs" / "images"
MAX_BYTES = 300_000
SCALE = 1.5
"""Pixels of an image for each pixel of the page."""


def main() -> None:
    """Write all images."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as scratch:
        project = Path(scratch)
        for name in ("notebooks", "params"):
            shutil.copytree(ROOT / name, project / name)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(project / "ipython")}
        bar = run_demo(project, environment)
        with open_browser() as browser:
            with page(browser, height=600) as visit:
                visit.page.set_content(draw_terminal(bar))
                save(visit.page.locator("svg").screenshot(), "terminal")
            with page(browser, height=1250) as visit:
                visit.page.goto((project / "outputs" / "demo" / "reports" / "index.html").as_uri())
                save(visit.page.screenshot(), "report")
            with jupyterlab(project, environment) as address, page(browser, height=1000) as visit:
                visit.page.goto(address("notebooks/06_search_and_clean.ipynb"))
                run_all(visit.page)
                show(visit, visit.page.get_by_text("compared videos kept"), block="center")
                save(visit.page.screenshot(), "lab")
            words = ("dedup_lib", "app", "demo", "--no-browser")
            with (
                serving(*words, cwd=project, environment=environment, says=r"app: (\S+)") as said,
                page(browser, height=1000) as visit,
            ):
                visit.page.goto(said[1])
                show(visit, visit.page.get_by_role("heading", name="Ask a person"), block="start")
                save(visit.page.screenshot(), "app")


def page(browser: Browser, *, height: int) -> AbstractContextManager[Visit]:
    """A page in a browser window of this height, in pixels."""
    return open_visit(browser, viewport={"width": 1200, "height": height}, device_scale_factor=SCALE)


def run_demo(project: Path, environment: dict[str, str]) -> RenderableType:
    """Run the demo in an empty project. Returns what `status` showed during the extraction."""
    middle: RenderableType = ""
    with subprocess.Popen([sys.executable, "-m", "dedup_lib", "demo"], cwd=project, env=environment) as demo:
        while demo.poll() is None:
            time.sleep(0.05)
            if (project / "outputs" / "demo" / "run.lock").exists():
                progress = read_progress(RunFolder(project / "outputs" / "demo"))
                at_it = progress.holder is not None and progress.holder.now == ExtractSettings.stage
                extraction = progress.extraction
                if at_it and progress.state == State.RUNNING and extraction and extraction.done < extraction.total:
                    middle = draw_progress(progress)
    if demo.returncode:
        sys.exit("the demo failed; see its output above")
    return middle


def draw_terminal(shown: RenderableType) -> str:
    """Draw a terminal that shows this, as SVG with the fonts of this machine."""
    console = Console(record=True, width=96, file=io.StringIO(), force_terminal=True)
    console.print(shown)
    drawn = console.export_svg(title="python -m dedup_lib status demo --watch")
    return re.sub(r"@font-face\s*{.*?}", "", drawn, flags=re.DOTALL)


def show(visit: Visit, what: Locator, *, block: str) -> None:
    """Wait until 06 is complete, and scroll a part of it to the `start` or `center` of the window."""
    visit.page.get_by_text("rows in, ").first.wait_for(timeout=120_000)
    for _ in range(3):
        # The page is laid out again for what comes into view.
        what.first.evaluate("(shown, block) => shown.scrollIntoView({block})", block)
        visit.page.wait_for_timeout(1000)


def save(png: bytes, name: str) -> None:
    """Write an image as PNG with the most colours that fit into `MAX_BYTES`."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32):
        packed = io.BytesIO()
        picture.quantize(colours, method=Image.Quantize.MEDIANCUT).save(packed, "PNG", optimize=True)
        if packed.tell() <= MAX_BYTES:
            break
    (IMAGES / f"{name}.png").write_bytes(packed.getvalue())
    print(f"docs/images/{name}.png: {picture.width} × {picture.height}, {packed.tell() / 1000:.0f} kB")


if __name__ == "__main__":
    main()
