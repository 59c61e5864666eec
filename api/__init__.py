"""The HTTP API: the newest value of each feature, and what is known about it."""

from api.app import create_app

__all__ = ["create_app"]
