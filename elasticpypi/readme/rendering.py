"""A process that renders one README: `python -m elasticpypi.readme.rendering KIND`, from its input to its output.

It ends with a status other than 0, and a sentence, where the README cannot be rendered, takes too long or too much.
"""

from __future__ import annotations

import json
import sys

from elasticpypi.readme.cleaning import clean

_MEMORY_BYTES = 512 * 2**20  # of addresses, of which an empty process has a tenth
_SECONDS = 10  # of processor time; who waits gives up earlier
_MOST_RENDERED = 2 * 2**20  # characters


def main() -> None:
    """Render what comes in."""
    _bound()
    rendered = render(sys.stdin.buffer.read().decode(), sys.argv[1])
    if rendered is None:
        sys.exit("its markup has errors")
    if len(rendered) > _MOST_RENDERED:
        sys.exit(f"rendered it has more than {_MOST_RENDERED} characters")
    html, images = clean(rendered)
    json.dump({"html": html, "images": images}, sys.stdout)


def _bound() -> None:
    if sys.platform == "linux":  # others have limits of this kind by name only
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it writes no file


def render(text: str, kind: str) -> str | None:
    """Return what a renderer makes of a text, cleaned by it; None where its markup has errors."""
    if kind == "rst":
        from readme_renderer import rst

        return rst.render(text)
    from readme_renderer import markdown

    return markdown.render(text, variant="CommonMark" if kind == "commonmark" else "GFM")


if __name__ == "__main__":
    main()
