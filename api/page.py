"""The API's own page: one HTML document rendered from the schema, with no other asset.

The packaged Swagger UIs are too old for OpenAPI 3.1, and the usual plugins load theirs from a CDN.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
section { border: 1px solid #8886; border-radius: 6px; padding: .75rem 1rem; margin: 1rem 0; }
h2 { font-size: 1.05rem; margin: 0; } h3 { font-size: .9rem; margin: .8rem 0 .2rem; }
.method { background: #0b6; color: #fff; border-radius: 4px; padding: .1rem .5rem; }
pre { background: #8882; border-radius: 6px; padding: .75rem; overflow-x: auto; font-size: .85rem; }
"""


class Page(OpenAPIRenderPlugin):
    """Serves the schema as a page a person reads."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The whole page, UTF-8."""
        info = openapi_schema["info"]
        link = escape(self.get_openapi_json_route(request))
        operations = "".join(
            _operation(method, path, operation)
            for path, item in sorted(openapi_schema["paths"].items())
            for method, operation in item.items()
        )
        schemas = openapi_schema.get("components", {}).get("schemas", {})
        documents = "".join(_document(name, schema) for name, schema in sorted(schemas.items()))
        title = escape(info["title"])
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            '<link rel="icon" href="data:,">'
            f"<title>{title}</title><style>{_STYLE}</style></head><body>"
            f"<h1>{title} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}"
            f' The schema: <a href="{link}">OpenAPI {escape(openapi_schema["openapi"])}</a>.</p>'
            f"{operations}<h1>Documents</h1>{documents}</body></html>"
        ).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    parts = [
        f'<section><h2><span class="method">{escape(method.upper())}</span> '
        f"<code>{escape(path)}</code></h2>",
        f"<p>{escape(operation.get('description') or operation.get('summary') or '')}</p>",
        *_contents("Request", body),
    ]
    for status, response in sorted(operation.get("responses", {}).items()):
        parts.append(f"<h3>{escape(status)}</h3><p>{escape(response.get('description', ''))}</p>")
        parts.extend(_contents("", response.get("content", {})))
    return "".join((*parts, "</section>"))


def _contents(title: str, contents: dict[str, Any]) -> Iterable[str]:
    for media_type, content in contents.items():
        heading = f"{title} {media_type}".strip()
        yield f"<h3>{escape(heading)}</h3>{_json(content.get('examples') or content['schema'])}"


def _document(name: str, schema: dict[str, Any]) -> str:
    text = escape(schema.get("description", ""))
    return f"<section><h2>{escape(name)}</h2><p>{text}</p>{_json(schema)}</section>"


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"
