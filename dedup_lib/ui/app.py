"""06 as an app in the browser, for people without JupyterLab.

The app shows the cells that are tagged `app`, and no code. It works on a run that exists, by the settings of that run,
and what it saves is what the notebook saves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nbformat import NotebookNode
from tornado.ioloop import IOLoop
from traitlets.config import Config
from voila.app import Voila

from dedup_lib.flow.notebook import fill_in
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.run.paths import find_project_root
from dedup_lib.sanitise import sanitise_line
from dedup_lib.settings import SearchSettings, parameter_types

STAGE = SearchSettings.stage
TEMPLATES_DIR = Path(__file__).parent / "templates" / "app"

KERNEL_IDLES_S = 900
"""So long the kernel of a page is kept that was closed without saying so."""


def serve_app(run: RunFolder, *, port: int, address: str, on_ready: Callable[[str], object]) -> None:
    """Serve the app of a run until the process is ended; `on_ready` is told its URL, which holds the token that lets
    people in. Where the port is taken, another one is.

    Raises RunFolderError when 06_search_and_clean has not finished in this run folder.
    """
    record = run.require_record(STAGE)
    config = {
        # The browser that it would open lacks the token.
        "Voila": {"port": port, "ip": address, "open_browser": False, "auto_token": True, "log_level": "WARN"},
        "VoilaConfiguration": {
            "prelaunch_hook": lambda handler, notebook, cwd: prepare_app(run, record),
            # The text of an error says what to do.
            "show_tracebacks": True,
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "file_allowlist": [],
        },
        "MappingKernelManager": {"cull_idle_timeout": KERNEL_IDLES_S, "cull_interval": 60},
    }
    voila = Voila(config=Config(config))
    voila.initialize([str(find_project_root() / "notebooks" / f"{STAGE}.ipynb")])
    # Ours goes first; what it does not say comes from those of Voilà.
    voila.template_paths.insert(0, str(TEMPLATES_DIR))
    IOLoop.current().add_callback(lambda: on_ready(voila.display_url))
    voila.start()


def prepare_app(run: RunFolder, record: Record) -> NotebookNode:
    """The notebook that a visit runs: by the settings of the run, with the outputs of the cells that are tagged `app`.

    `record` is what the notebook left when it last ran in this run folder.
    """
    settings = {
        name: record["settings"][name] for name in parameter_types(SearchSettings) if name in record["settings"]
    }
    notebook = fill_in(STAGE, settings | {"run_dir": str(run.path)})
    notebook.metadata.title = f"{sanitise_line(run.path.name)}: which videos are the same?"
    cells: list[NotebookNode] = []
    for cell in notebook.cells:
        shown = "app" in cell.metadata.get("tags", [])
        if cell.cell_type == "markdown" and not shown:
            continue
        if cell.cell_type == "code" and not shown:
            cell.source = f"%%capture\n{cell.source}"
        cells.append(cell)
    # Of an error, the line that is meant for people.
    cells[0].source = cells[0].source.replace("%%capture\n", "%%capture\n%xmode Minimal\n", 1)
    notebook.cells = cells
    return notebook
