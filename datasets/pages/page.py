"""Pages for people, each of which is one file: it needs no other, no script and no network.

a template of some room ─► in page.html.j2, with style.css and macros.html.j2 ─► HTML
"""

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..emojis.text import display, name


def render(template: Path, **content: object) -> str:
    """A page of its template, which extends page.html.j2; others beside it can be included."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,  # captions, emojis and names of files are other people's
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"display": display, "emoji_name": name, "data_uri": data_uri}
    return environment.get_template(template.name).render(**content)


def data_uri(pixels: NDArray[np.uint8], side: int) -> str:
    """An image [H, W, 3], no side over `side` pixels, as the address of itself."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
