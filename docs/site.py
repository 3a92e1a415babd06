"""What the site needs besides the pages: links out of docs/ lead to the repository there."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from pymdownx.slugs import slugify

_LINK: Final = re.compile(r"(?<=\]\()(?!https?:|mailto:)([^)\s#]*)(#[^)\s]*)?(?=\))")
_NOT_PAGES: Final = ("examples/", "schemas/")
"""Below docs/, and read as files."""


_PAGE: Final = re.compile(r"\[([^\]]+)\]\((?!\.\./)([\w./-]+\.md)\)")
_AGAIN: Final = re.compile(r"-(\d)$")
"""The second heading of a name: GitHub counts `storm-1`, Python-Markdown `storm_1`."""


def on_config(config: Any) -> Any:
    """Name headings as GitHub does, so that links work in both places; order pages as the index."""
    slug = slugify(case="lower")
    config.mdx_configs["toc"]["slugify"] = lambda text, separator: slug(
        text.replace("<", "").replace(">", ""), separator
    )
    config.nav = [{"promheal": "README.md"}, *_sections(Path(config.docs_dir))]
    return config


def _sections(docs: Path) -> list[dict[str, Any]]:
    """Return the navigation that the index has: its headings, and the pages below each."""
    sections = []
    for section in (docs / "README.md").read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        pages = [{name: path} for name, path in _PAGE.findall(text)]
        if "reference/actions/README.md" in text:
            below = sorted((docs / "reference/actions").glob("[a-z]*.md"))
            pages.append({"Actions": [f"reference/actions/{path.name}" for path in below]})
        sections.append({title.partition(":")[0]: pages})
    return sections


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    folder = posixpath.dirname(page.file.src_uri)

    def outside(found: re.Match[str]) -> str:
        anchor = _AGAIN.sub(r"_\1", found[2] or "")
        if not found[1]:
            return anchor
        path = posixpath.normpath(posixpath.join(folder, found[1]))
        if path.startswith("../"):
            path = path.removeprefix("../")
        elif f"{path}/".startswith(_NOT_PAGES):
            path = f"docs/{path}"
        else:
            return found[1] + anchor
        kind = "blob" if "." in posixpath.basename(path) else "tree"
        return f"{config.repo_url}/{kind}/main/{path}{anchor}"

    return _LINK.sub(outside, markdown)
