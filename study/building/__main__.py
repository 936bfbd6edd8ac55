"""Tells whether the pages in `_build/html` are a whole book of today: `python -m study.building`; exit 1 if not."""

import sys
from pathlib import Path

from study.building.book import Book


def main() -> None:
    """Print what the book in the current directory lacks."""
    lacks = Book(Path()).lacks()
    print(f"{lacks}: make book" if lacks else "the book is whole and of today")
    sys.exit(1 if lacks else 0)


if __name__ == "__main__":
    main()
