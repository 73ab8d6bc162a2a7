"""06 as an app in the browser, for people without JupyterLab.

The app shows the cells that are tagged `app`, and no code. It works on an existing run with the settings of that run,
and saves the same files as the notebook.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nbformat import NotebookNode
from tornado.ioloop import IOLoop
from traitlets.config import Config
from voila.app import Voila

from dedup_lib.flow.notebook import fill_in
from dedup_lib.report.style import PAGE_COLOURS
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.run.paths import notebook_path
from dedup_lib.sanitise import sanitise_line
from dedup_lib.settings import SearchSettings, parameter_types

STAGE = SearchSettings.stage
TEMPLATES_DIR = Path(__file__).parent / "templates" / "app"

KERNEL_IDLES_S = 900
"""Seconds before an idle kernel is culled. A page may close without telling the server."""


def serve_app(run: RunFolder, *, port: int, address: str, on_ready: Callable[[str], object]) -> None:
    """Serves the app of a run until the process ends. Calls `on_ready` with its URL, which holds the access token. When
    the port is taken, it uses another one.

    Raises RunFolderError when 06_search_and_clean has not finished in this run folder.
    """
    record = run.require_record(STAGE)
    config = {
        # Voilà would open the browser without the token.
        "Voila": {"port": port, "ip": address, "open_browser": False, "auto_token": True, "log_level": "WARN"},
        "VoilaConfiguration": {
            "prelaunch_hook": lambda handler, notebook, cwd: prepare_app(run, record),
            # The texts of our errors say what to do.
            "show_tracebacks": True,
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "file_allowlist": [],
        },
        "MappingKernelManager": {"cull_idle_timeout": KERNEL_IDLES_S, "cull_interval": 60},
    }
    voila = Voila(config=Config(config))
    voila.initialize([str(notebook_path(STAGE))])
    # Our template comes first; Voilà's own templates supply the rest.
    voila.template_paths.insert(0, str(TEMPLATES_DIR))
    IOLoop.current().add_callback(lambda: on_ready(voila.display_url))
    voila.start()


def prepare_app(run: RunFolder, record: Record) -> NotebookNode:
    """Returns the notebook that a visit runs: with the settings of the run, and only the outputs of cells tagged `app`.

    `record` is the stage record of the notebook in this run folder.
    """
    settings = {
        name: record["settings"][name] for name in parameter_types(SearchSettings) if name in record["settings"]
    }
    notebook = fill_in(STAGE, settings | {"run_dir": str(run.path)})
    notebook.metadata.title = f"{sanitise_line(run.path.name)}: which videos are the same?"
    notebook.metadata.dark = {name: dark for name, (_, dark) in PAGE_COLOURS.items()}
    cells: list[NotebookNode] = []
    for cell in notebook.cells:
        shown = "app" in cell.metadata.get("tags", [])
        if cell.cell_type == "markdown" and not shown:
            continue
        if cell.cell_type == "code" and not shown:
            cell.source = f"%%capture\n{cell.source}"
        cells.append(cell)
    # Show only the last line of an error, which is meant for people.
    cells[0].source = cells[0].source.replace("%%capture\n", "%%capture\n%xmode Minimal\n", 1)
    notebook.cells = cells
    return notebook
