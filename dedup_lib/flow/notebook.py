"""A notebook of this project with the parameters of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nbformat
from nbformat import NotebookNode

from dedup_lib.errors import RunFolderError
from dedup_lib.run.paths import notebook_path


def fill_in(stage: str, parameters: Mapping[str, Any]) -> NotebookNode:
    """A notebook of this project with these parameters in place of its defaults, as papermill would run it.

    Raises RunFolderError where the folder of notebooks is not beside the package.
    """
    from papermill.parameterize import parameterize_notebook

    path = notebook_path(stage)
    try:
        notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    except OSError as error:
        raise RunFolderError(
            f"{path}, which the app shows, cannot be read ({error.strerror}): keep the folders "
            "dedup_lib, notebooks and params together"
        ) from None
    # Papermill's own reader sets the same metadata.
    notebook.metadata["papermill"] = {}
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    filled: NotebookNode = parameterize_notebook(notebook, dict(parameters))
    return filled
