"""The trees of the relations of tables, which Genropy builds for each statement of SQL that it compiles.

Owns: that a thread builds a tree once. Never: the model, which is that of the process and does not change while it
serves. A tree is of one thread, because what is below it is built when it is first used.
"""

from __future__ import annotations

import threading
from typing import Any, Callable

from .kept import Kept


def resolver(kept: Kept, make: Callable[..., Any], table: Any, options: dict[str, Any]) -> Any:
    """Stands in for `DbTableObj.newRelationResolver`. Only what is built once for a request is kept."""
    if options != {"cacheTime": -1}:
        return make(table, **options)
    key = ("relations", threading.get_ident(), id(table))
    columns = tuple(table["virtual_columns"].keys())
    found = kept.get(key)
    if found is not None and found[0] is table and found[1] == columns:
        return found[2]
    tree = make(table, **options)
    kept.put(key, (table, columns, tree))
    return tree
