"""Locks that a handler holds: a lease with a fencing token, renewed while the handler runs.

Owns: the requests `lock.*` and the thread that renews. Never: who gets a lock, which the supervisor decides.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from .steps import Steps

if TYPE_CHECKING:
    from .context import AnyContext


class BaseLock:
    """A named lock of the cluster.

    `token` is a number that only grows from holder to holder.
    """

    def __init__(self, context: AnyContext, name: str, ttl: float, wait: float | None) -> None:
        self._context = context
        self.name = name
        self.token = 0
        self._until = 0.0
        self._ttl_ms = max(1, round(ttl * 1000))
        self._wait_ms = None if wait is None else max(0, round(wait * 1000))

    @property
    def held(self) -> bool:
        """Whether the lock is held: it was renewed in time, and no other holder has it."""
        self._context._link.poll()
        return self._context._link.now() < self._until

    def _acquire(self) -> Steps[None]:
        params: dict[str, Any] = {"name": self.name, "ttl_ms": self._ttl_ms}
        if self._wait_ms is not None:
            params["wait_ms"] = self._wait_ms
        given = yield ("lock.acquire", params)
        # counted from the answer: with `wait` the request may take longer than the lease
        now = self._context._link.now()
        self.token = given["token"]
        # what is left of the lease, while a renewal asks for all of it
        self._until = now + given.get("ttl_ms", self._ttl_ms) / 1000
        renewer.add(self)

    def _release(self) -> Steps[None]:
        renewer.remove(self)
        if self._until:
            self._until = 0.0
            yield ("lock.release", {"name": self.name, "token": self.token})

    def _renew(self) -> None:
        """Sends a renewal. Its answer is read by the loop of the child, in any thread."""
        until = self._context._link.now() + self._ttl_ms / 1000
        params = {"name": self.name, "token": self.token, "ttl_ms": self._ttl_ms}
        self._context._link.post(self._context, "lock.renew", params, lambda reply: self._renewed(reply, until))

    def _renewed(self, reply: dict[str, Any] | None, until: float) -> None:
        error = (reply or {}).get("error")
        if error is None:
            # not after the release
            self._until = until if self._until and reply is not None else self._until
        elif not error.get("retryable", False):
            self._until = 0.0
            renewer.remove(self)


class Lock(BaseLock):
    """A lock in a sync handler: `with ctx.lock("stock", ttl=30) as lock:`."""

    def __enter__(self) -> Lock:
        self._context._drive(self._acquire())
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._context._drive(self._release())


class AsyncLock(BaseLock):
    """A lock in an async handler: `async with ctx.lock("stock", ttl=30) as lock:`."""

    async def __aenter__(self) -> AsyncLock:
        await self._context._drive(self._acquire())
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self._context._drive(self._release())


class Renewer:
    """The thread that renews the locks of this process, each three times in its lease."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Holds no lock. A forked process begins so: its parent holds the locks, and has the thread."""
        self._changed = threading.Condition()
        self._due: dict[BaseLock, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, lock: BaseLock) -> None:
        with self._changed:
            self._due[lock] = time.monotonic() + lock._ttl_ms / 3000
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pagewire-locks", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, lock: BaseLock) -> None:
        with self._changed:
            self._due.pop(lock, None)

    def _run(self) -> None:
        while True:
            for lock in self._wait():
                try:
                    lock._renew()
                except Exception:  # the loop has ended, and the lease ends with it
                    self.remove(lock)

    def _wait(self) -> list[BaseLock]:
        """Waits until locks are due, and returns them."""
        with self._changed:
            now = time.monotonic()
            if not self._due or min(self._due.values()) > now:
                self._changed.wait(min(self._due.values()) - now if self._due else None)
            now = time.monotonic()
            due = [lock for lock, at in self._due.items() if at <= now]
            for lock in due:
                self._due[lock] = now + lock._ttl_ms / 3000
            return due


renewer = Renewer()
os.register_at_fork(after_in_child=renewer.begin)
