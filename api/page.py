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
table { border-collapse: collapse; } td { padding: .15rem .9rem .15rem 0; vertical-align: top; }
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
            for path, item in sorted(openapi_schema["paths"].items(), key=_lookups_first)
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


def _lookups_first(entry: tuple[str, Any]) -> tuple[bool, str]:
    path = entry[0]
    return (not path.startswith("/v1/"), path)


def _contents(title: str, contents: dict[str, Any]) -> Iterable[str]:
    for media_type, content in contents.items():
        heading = f"{title} {media_type}".strip()
        yield f"<h3>{escape(heading)}</h3><p>{_type(content['schema'])}</p>"
        examples = content.get("examples") or content["schema"].get("examples") or ()
        for example in examples.values() if isinstance(examples, dict) else examples:
            yield _json(example.get("value", example))


def _document(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_type(found)}"
        f"{'' if field in required else ', optional'}</td>"
        f"<td>{escape(found.get('description', ''))}</td></tr>"
        for field, found in schema.get("properties", {}).items()
    )
    return (
        f'<section id="{escape(name)}"><h2>{escape(name)}</h2>'
        f"<p>{escape(schema.get('description', ''))}</p><table>{rows}</table></section>"
    )


def _type(schema: dict[str, Any]) -> str:
    """A schema in words, with links to the documents it is made of."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "oneOf" in schema or "anyOf" in schema:
        return " or ".join(_type(one) for one in schema.get("oneOf") or schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(escape(repr(v)) for v in schema.get("enum") or (schema["const"],))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])} by name"
    kinds = kind if isinstance(kind, list) else [kind]
    return escape(" or ".join(map(str, kinds)))


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"
