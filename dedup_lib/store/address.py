"""Which store is used, by MILVUS_URI and the parameter `store`."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from dedup_lib.errors import SettingError, StoreError
from dedup_lib.run.folder import RunFolder, find_run
from dedup_lib.run.paths import find_project_root
from dedup_lib.settings import StoreChoice


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    """Where the store is. No text form of this record shows `token`."""

    uri: str
    token: str = ""

    @classmethod
    def find(cls, run: RunFolder) -> StoreAddress:
        """Returns the server that `MILVUS_URI` and `MILVUS_TOKEN` name, in the environment or in a `.env` file at the
        project root; without one, the Milvus Lite file of the run folder.

        Raises StoreError when the URI is no http(s) address, or `.env` is not valid UTF-8.
        """
        return cls.find_server(run.path) or cls(uri=str(run.lite_path))

    @classmethod
    def choose(cls, choice: StoreChoice, run: RunFolder) -> StoreAddress:
        """Returns the store of a run by its parameter `store`. Raises SettingError when `choice` is `server` and
        MILVUS_URI names none, and the errors of `find`."""
        address = cls.find(run)
        if choice == "server" and address.is_local:
            raise SettingError(
                "store",
                choice,
                "MILVUS_URI names no server. Copy .env.example to .env and write the line MILVUS_URI=http://host:19530 "
                "(of Zilliz Cloud, the https address of the cluster) into it, and MILVUS_TOKEN below; or set "
                "store: auto, which puts the vectors into a file in the run folder",
            )
        return address

    @classmethod
    def find_server(cls, path: Path) -> StoreAddress | None:
        """Returns the server that `MILVUS_URI` and `MILVUS_TOKEN` name for the project around `path`, or None."""
        env_path = find_project_root(path) / ".env"
        try:
            named = {**dotenv_values(env_path), **os.environ}
        except UnicodeDecodeError:
            raise StoreError(f"{env_path} is not valid UTF-8: save it as plain text in UTF-8") from None
        uri = (named.get("MILVUS_URI") or "").strip()
        if not uri:
            return None
        # The URI may hold a password: the error does not repeat it.
        if not _is_server_address(uri):
            raise StoreError(
                "MILVUS_URI is not the http:// or https:// address of a Milvus server or of Zilliz Cloud (it is not "
                "shown, for it may hold a password): correct it, or leave it empty for a Milvus Lite file in the run "
                "folder"
            )
        return cls(uri=uri, token=(named.get("MILVUS_TOKEN") or "").strip())

    @classmethod
    def parse(cls, text: str) -> StoreAddress:
        """Returns the store that `text` names: `server` for the server of `MILVUS_URI`, the path of a Milvus Lite file
        (….db), or a run (its name in outputs/ or the path of its folder) for the file of that run. Creates no file.

        Raises StoreError when `MILVUS_URI` names no server, or `text` names no store.
        """
        if text == "server":
            server = cls.find_server(Path.cwd())
            if server is None:
                raise StoreError(
                    "server means the store that MILVUS_URI names, and MILVUS_URI is empty: set it in .env or in the "
                    "environment"
                )
            return server
        if text.endswith(".db"):
            return cls(uri=str(Path(text).absolute()))
        if (run := find_run(text)) is not None:
            return cls(uri=str(run.lite_path))
        raise StoreError(
            f"{text!r} is not a store: give the name of a run in outputs/, the path of a Milvus Lite file (….db), or "
            "server"
        )

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def is_on_this_machine(self) -> bool:
        """Whether it is a Milvus Lite file, or a server at an address that never leaves this machine."""
        host = "localhost" if self.is_local else (urlsplit(self.uri).hostname or "").removesuffix(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (inner or address).is_loopback or (inner or address).is_unspecified

    def __str__(self) -> str:
        """The address without user, password and token, safe to show."""
        if self.is_local:
            return f"Milvus Lite, {Path(self.uri).name}"
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def __repr__(self) -> str:
        return f"StoreAddress({str(self)!r})"


def _is_server_address(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
