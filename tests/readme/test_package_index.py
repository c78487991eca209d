"""What a package index shows of the README renders, and each link in it and in the documentation leads somewhere."""

import re
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import pytest
from build.util import project_wheel_metadata
from readme_renderer.markdown import render

from tests.docs.pages import PAGES
from tests.faults.kit.form import LONG

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINK = re.compile(r"\]\(([^)\s]+)\)")
RELATIVE = [link for link in LINK.findall(README) if not link.startswith("http")]
EXTERNAL = sorted({link for text in (README, *PAGES.values()) for link in LINK.findall(text) if "://" in link})
TIMEOUT = 20.0


class Targets(HTMLParser):
    """Collects the links and pictures of a page, and the text of its headings."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        targets = [value or "" for name, value in attrs if name in ("href", "src")]
        self.found += [it for it in targets if not it.startswith("#user-content-")]  # those that headings are given


@pytest.fixture(scope="module")
def description() -> str:
    """The README in the metadata of the wheel."""
    metadata = project_wheel_metadata(ROOT, isolated=False)
    assert metadata["Description-Content-Type"] == "text/markdown"
    return str(metadata.get_payload())  # type: ignore[attr-defined]


def test_package_readme_rendered_has_external_links_only(description: str) -> None:
    """A package index resolves no relative link, and shows no picture of the repository."""
    html = render(description)
    assert html is not None
    page = Targets(html)
    assert page.tags >= {"h1", "h2", "table", "pre", "a"}
    assert [link for link in page.found if not link.startswith("https://")] == []
    assert {link for link in LINK.findall(README) if "://" in link} == set(page.found)


def test_package_readme_keeps_the_text_of_relative_links(description: str) -> None:
    texts = [text for text, _ in re.findall(r"(?<!!)\[([^\]]*)\]\((?!http)([^)]*)\)", README)]
    assert len(texts) >= 10
    assert [text for text in texts if text not in description] == []
    assert "](" not in re.sub(r"\]\(https://[^)]*\)", "", description)


@pytest.mark.parametrize("link", RELATIVE)
def test_relative_link_of_readme_leads_to_a_file_and_a_heading(link: str) -> None:
    path, _, anchor = link.partition("#")
    assert (ROOT / path).exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_external_links_use_https() -> None:
    assert len(EXTERNAL) >= 10
    assert [link for link in EXTERNAL if not link.startswith("https://")] == []


@pytest.mark.skipif(not LONG, reason="asks other servers; in the long form only")
@pytest.mark.parametrize("link", EXTERNAL)
def test_external_link_exists(link: str) -> None:
    """Skipped where the server cannot be reached, or refuses programs."""
    request = urllib.request.Request(link.partition("#")[0], headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (403, 429):
            pytest.skip(f"the server answers {error.code}")
        raise
    except OSError as error:
        pytest.skip(f"the server cannot be reached: {type(error).__name__}")
