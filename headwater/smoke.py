"""Asks a running API what `helm test` wants to know.

    python -m headwater.smoke http://headwater-api:80 carrier_delays origin_delays

Every view named must be there, and a lookup of its first feature must be answered, whether or not
the entity has values. Exits with 1 and says what is wrong. Its key, where the API asks for one, is
in HEADWATER_API_KEY.
"""

from __future__ import annotations

import os
import sys

import requests

_SECONDS = 10
_SOME = {"string": "x", "int64": 1}


def check(api: str, views: list[str], key: str = "") -> list[str]:
    """What is wrong, a line each; empty when all is well."""
    session = requests.Session()
    if key:
        session.headers["x-api-key"] = key
    answer = session.get(f"{api}/v1/feature-views", timeout=_SECONDS)
    answer.raise_for_status()
    served = {view["name"]: view for view in answer.json()}
    wrong = [f"view {name} is not served" for name in views if name not in served]
    for name in views:
        if name not in served:
            continue
        view = served[name]
        request = {
            "features": [f"{name}:{view['features'][0]['name']}"],
            "entities": [{key["name"]: _SOME[key["type"]] for key in view["keys"]}],
        }
        answer = session.post(f"{api}/v1/features", json=request, timeout=_SECONDS)
        if answer.status_code != 200:
            wrong.append(f"view {name}: a lookup is answered {answer.status_code}: {answer.text}")
    return wrong


def main(arguments: list[str]) -> int:
    """0 when all is well."""
    api, *views = arguments
    try:
        wrong = check(api.rstrip("/"), views, os.environ.get("HEADWATER_API_KEY", "").strip())
    except requests.RequestException as error:
        wrong = [f"{api} does not answer: {error}"]
    for line in wrong or [f"{len(views)} views are served, and their lookups answered"]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
