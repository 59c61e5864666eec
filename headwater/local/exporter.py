"""`headwater exporter` as a part of the local platform."""

from __future__ import annotations

import os
import sys

import requests

from headwater.local.part import Part
from headwater.settings import Settings

NAME = "exporter"
_EVERY = ("--every", "2m", "--features-every", "2m")


def exporter(settings: Settings) -> Part:
    """Measures tables, expectations and features; it comes up without PostgreSQL and says so."""
    port = settings.ports.exporter
    address = f"http://127.0.0.1:{port}/metrics"
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "PYTHONPATH") or name.startswith(("AWS_", "PYICEBERG_"))
    }
    return Part(
        name=NAME,
        address=address,
        ports=(port,),
        command=(sys.executable, "-m", "headwater", "exporter", *_EVERY),
        env=passed
        | {
            "HEADWATER_REPOSITORY": settings.repository,
            "HEADWATER_STATE": str(settings.state),
            "HEADWATER_EXPORTER_PORT": str(port),
            "HEADWATER_POSTGRES": settings.postgres,
            "HEADWATER_POSTGRES_PASSWORD_FILE": str(settings.password_file),
            "HEADWATER_CATALOG_URI": settings.elsewhere.catalog_uri,
            "HEADWATER_WAREHOUSE": settings.warehouse,
        },
        check=lambda: requests.get(address, timeout=2).raise_for_status(),
        gives_way=True,
        # The rooms are imported from where the command runs.
        cwd=settings.build.parent,
    )
