"""The application as a server that is given `module:attribute` finds it."""

from __future__ import annotations

import gc
import os

from api.app import create_app
from api.server import ServerSettings
from api.store import connect
from schemas.loading import load_repository

_settings = ServerSettings.read(os.environ)
app = create_app(load_repository(_settings.repository), connect(_settings.redis_url))

gc.collect()
gc.freeze()
gc.set_threshold(50_000, 50, 100)
