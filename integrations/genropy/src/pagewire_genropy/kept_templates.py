"""The templates of pages, which Genropy compiles for each request.

Owns: compiling a template again when its file has changed, or when another folder has one. Never: rendering.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Sequence

from .kept import Kept

File = tuple[str, int, int]
"""The path, the time and the size of a file."""


class Templates:
    """Lookups by their folders. It stands in for `mako.lookup.TemplateLookup`."""

    def __init__(self, kept: Kept, lookup: Callable[..., Any]) -> None:
        self._kept = kept
        self._lookup = lookup

    def __call__(self, directories: Sequence[str], **options: Any) -> Any:
        key = ("templates", *directories, *sorted(options.items()))
        found = self._kept.get(key)
        if found is None:
            found = checking(self._lookup)(directories=list(directories), filesystem_checks=False, **options)
            self._kept.put(key, found)
        return found


def checking(lookup: Any) -> Any:
    """Returns a kind of lookup that compiles a template again when its file is another one."""

    class Checking(lookup):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._files: dict[str, File | None] = {}
            self._guard = threading.Lock()

        def get_template(self, uri: str) -> Any:
            file = file_of(self.directories, uri)
            with self._guard:
                if self._files.get(uri, file) != file:
                    self._collection.pop(uri, None)
                self._files[uri] = file
            return super().get_template(uri)

    return Checking


def file_of(folders: Sequence[str], uri: str) -> File | None:
    """Returns the first file of a template, as it is now."""
    for folder in folders:
        path = os.path.join(folder, uri.lstrip("/"))
        try:
            found = os.stat(path)
        except OSError:
            continue
        return path, found.st_mtime_ns, found.st_size
    return None
