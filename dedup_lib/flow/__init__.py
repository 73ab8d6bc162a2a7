"""A flow of notebooks: planned, checked before it starts, run by papermill."""
