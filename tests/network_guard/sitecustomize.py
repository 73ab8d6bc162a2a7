"""Imported by every Python that tests start, because this folder is on their PYTHONPATH."""

import loopback_only

loopback_only.install()
