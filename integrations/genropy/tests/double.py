"""The register of Pagewire as a class in the process of a test.

Owns: what the requests `register.*` and `lock.*` mean, as docs/register.md says. Never: a socket, time-outs.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from pagewire.errors import error_of


class Register:
    """Items, a log and locks. `asked` has the names of the requests, `before` is called with each one."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.log: list[tuple[set[str], dict[str, Any]]] = []
        self.asked: list[str] = []
        self.tables: dict[str, set[str]] = {}
        self.before: Any = lambda method, params: None
        self._cursors: dict[str, int] = {}
        self._locks: dict[str, int] = {}
        self._revision = 0
        self._mutex = threading.RLock()
        self._freed = threading.Condition(self._mutex)

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        # as on the wire: nothing is shared
        params = json.loads(json.dumps(params))
        self.before(method, params)
        with self._mutex:
            self.asked.append(method)
            name = method.replace("register.", "do_").replace(".", "_")
            return json.loads(json.dumps(getattr(self, name)(**{k: v for k, v in params.items() if k != "register"})))

    def tell(self, method: str, params: dict[str, Any]) -> None:
        self.ask(method, params)

    def is_open(self) -> bool:
        return True

    # items

    def do_read(self, items: list[dict[str, Any]], pages_of: Any = (), news_of: Any = ()) -> Any:
        pages = {connection: self._ids("page", connection=connection) for connection in pages_of}
        news = [page for page in news_of if ("page", page) in self.items and self._waiting(page)]
        return {"items": [self._read(one) for one in items], "pages": pages, "news": news, "position": len(self.log)}

    def _read(self, asked: dict[str, Any]) -> Any:
        found = self.items.get(self._key(asked))
        if found is not None and found["revision"] == asked.get("revision"):
            return {"level": asked["level"], "revision": found["revision"], "same": True}
        return found

    def do_write(self, ops: list[dict[str, Any]]) -> Any:
        results: list[dict[str, Any]] = []
        for op in ops:
            try:
                results.append({"revision": self._apply(op)})
            except LookupError as error:
                results.append({"error": {"code": error.args[0], "message": "refused", "retryable": False}})
                break
        return {"results": results}

    def _apply(self, op: dict[str, Any]) -> int:
        key, create = self._key(op), op.get("create")
        found = self.items.get(key)
        if found is not None and create == "new":
            raise LookupError("conflict")
        if found is None and create is None and not op.get("delete"):
            raise LookupError("unknown")
        if "if_revision" in op and (found is None or found["revision"] != op["if_revision"]):
            raise LookupError("conflict")
        self._revision += 1
        if op.get("delete"):
            self.items.pop(key, None)
            return self._revision
        if found is None or create == "replace":
            found = {"level": key[0], "id": key[1], "fields": {}, "data": {}, "created_ms": 0}
            self.tables.pop(key[1], None)
            self._cursors[key[1]] = len(self.log)
        self.items[key] = found
        found["fields"].update(op.get("fields", {}))
        for name, value in op.get("keep_max", {}).items():
            found["fields"][name] = max(value, found["fields"].get(name, value))
        found["fields"] = {name: value for name, value in found["fields"].items() if value is not None}
        found["data"].update(op.get("data", {}))
        for name in op.get("unset", ()):
            found["data"].pop(name, None)
        found["revision"] = self._revision
        return self._revision

    def do_list(self, level: str, where: Any = None, prefix: Any = None, with_data: bool = False) -> Any:
        found = [one for (of, _), one in self.items.items() if of == level and self._fits(one["fields"], where, prefix)]
        return {"items": found if with_data else [{**one, "data": {}} for one in found]}

    @staticmethod
    def _fits(fields: dict[str, Any], where: Any, prefix: Any) -> bool:
        equal = all(fields.get(name) == value for name, value in (where or {}).items())
        return equal and all(str(fields.get(name) or "").startswith(text) for name, text in (prefix or {}).items())

    def do_relabel(self, connection: str, user: str, fields: Any = None, user_fields: Any = None) -> Any:
        item = self.items[("connection", connection)]
        before = item["fields"].get("user")
        if ("user", user) not in self.items:
            self._apply({"level": "user", "id": user, "create": "new", "fields": user_fields or {}})
        self._apply({"level": "connection", "id": connection, "fields": {**(fields or {}), "user": user}})
        pages = self._ids("page", connection=connection)
        for page in pages:
            self._apply({"level": "page", "id": page, "fields": {"user": user}})
        if before is not None and not self._ids("connection", user=before):
            self.items.pop(("user", before), None)
        return {"pages": pages}

    def do_drop(self, level: str, id: str, cascade: bool = False) -> Any:
        dropped: list[dict[str, str]] = []
        self._drop(level, id, cascade, dropped)
        return {"dropped": dropped}

    def _drop(self, level: str, id: str, cascade: bool, dropped: list[dict[str, str]]) -> None:
        found = self.items.pop((level, id), None)
        if found is None:
            return
        dropped.append({"level": level, "id": id})
        below = {"user": ("connection", "user"), "connection": ("page", "connection")}.get(level)
        if below is not None:
            for other in self._ids(below[0], **{below[1]: id}):
                self._drop(below[0], other, False, dropped)
        above = {"page": "connection", "connection": "user"}.get(level)
        if cascade and above is not None:
            owner = found["fields"].get(above)
            if owner and not self._ids(level, **{above: owner}):
                self._drop(above, owner, True, dropped)

    def _ids(self, level: str, **where: str) -> list[str]:
        return [id for (of, id), one in self.items.items() if of == level and self._fits(one["fields"], where, None)]

    @staticmethod
    def _key(named: dict[str, Any]) -> tuple[str, str]:
        return named["level"], named.get("id", "*")

    # the log

    def do_publish(self, entries: list[dict[str, Any]]) -> Any:
        counts = []
        for entry in entries:
            pages = set(self._addressed(entry["to"]))
            self.log.append((pages, {**entry, "position": len(self.log)}))
            counts.append(len(pages))
        return {"position": len(self.log), "pages": counts}

    def _addressed(self, to: dict[str, Any]) -> list[str]:
        if "table" in to:
            pages = self._ids("page")
            return [page for page in pages if to["table"] in self.tables.get(page, ())]
        if "all" in to:
            return self._ids("page")
        if "user" in to:
            return self._ids("page", user=to["user"])
        return [page for page in to.get("pages", [to.get("page")]) if ("page", page) in self.items]

    def do_subscribe(self, page: str, tables: dict[str, bool]) -> Any:
        if ("page", page) not in self.items:
            raise error_of({"code": "unknown", "message": f"there is no page {page}"})
        held = self.tables.setdefault(page, set())
        held.update(name for name, on in tables.items() if on)
        held.difference_update(name for name, on in tables.items() if not on)
        self._apply({"level": "page", "id": page})
        return {}

    def do_tables(self, tables: list[str]) -> Any:
        held = {name for page in self._ids("page") for name in self.tables.get(page, ())}
        return {"tables": [table for table in tables if table in held]}

    def _waiting(self, page: str) -> list[dict[str, Any]]:
        start = self._cursors.get(page, 0)
        return [{"reset": False, **entry} for pages, entry in self.log[start:] if page in pages]

    def do_take(self, page: str, peek: bool = False, position: int = 0) -> Any:
        entries = self._waiting(page)
        self._cursors[page] = len(self.log)
        return {"entries": entries, "reset": False}

    def do_withdraw(self, page: str, path: str) -> Any:
        for pages, entry in self.log:
            is_alone = entry["to"] == {"page": page}
            if is_alone and all(change["path"].startswith(path) for change in entry["changes"]):
                pages.discard(page)
        return {}

    # locks

    def lock_acquire(self, name: str, ttl_ms: int, wait_ms: int) -> Any:
        if not self._freed.wait_for(lambda: name not in self._locks, timeout=min(wait_ms / 1000, 0.5)):
            raise error_of({"code": "locked", "message": f"{name} is locked", "retryable": True})
        self._revision += 1
        self._locks[name] = self._revision
        return {"token": self._revision, "ttl_ms": ttl_ms}

    def lock_release(self, name: str, token: int) -> Any:
        if self._locks.get(name) == token:
            del self._locks[name]
            self._freed.notify_all()
        return {}
