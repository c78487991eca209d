"""Serves the mermaid script with the site, where make has downloaded it, on the pages that have a picture.

Without it the theme loads the script from a CDN, and where that cannot be reached shows the picture's source.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

SCRIPT = Path(__file__).parents[1] / ".venv" / "mermaid.min.js"


def on_files(files: Files, config: MkDocsConfig) -> None:
    if SCRIPT.exists():
        files.append(File.generated(config, SCRIPT.name, abs_src_path=str(SCRIPT)))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put each picture into an element that scrolls, because it cannot be read on a phone when it is scaled down."""
    return re.sub(r'<pre class="mermaid">.*?</pre>', r'<div class="picture">\g<0></div>', html, flags=re.DOTALL)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    if SCRIPT.exists() and '<pre class="mermaid">' in output:
        address = get_relative_url(SCRIPT.name, page.url)
        return output.replace("</head>", f'<script src="{address}"></script></head>', 1)
    return output
