"""The command line: `python -m dedup_lib`."""
