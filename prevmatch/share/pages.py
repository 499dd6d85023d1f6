"""HTML pages that need no network and no other style than their own, from the templates beside this file."""

import base64
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """The page of a template's name; everything in `values` is escaped."""
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    return environment.get_template(template).render(**values)


def inline(content: bytes, kind: str) -> str:
    """A picture's file content as data URI; `kind`: png, jpeg, webp."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
