"""Clients for programs that are no workers: they use the server API.

Owns: `Client` and `AsyncClient`. Never: HTTP (`http_api`, `http_pool`).

Both have the same methods, written once in `BaseClient`: `Client` returns values, `AsyncClient` awaitables of them.
"""

from __future__ import annotations

import time
from typing import Any, Awaitable, Callable, Generic

from .errors import Error
from .http_api import missing_value, route, value_of
from .http_pool import Pool
from .requests import SAME_USER, Jobs, Reach, Record, Requester, Sent, Text, call_params, job_params
from .state import AsyncEdit, Edit, EditType, Read, Reading, Revision, Trees, Value
from .steps import Pause, Steps, drive, drive_async

ENDS = ("succeeded", "failed", "cancelled", "dead")


class ClientJobs(Jobs[Text, Record], Generic[Text, Record, Value]):
    """Durable jobs: submit, get, cancel, and wait for their end."""

    __slots__ = ()

    def submit(
        self,
        kind: str,
        data: Any = None,
        *,
        user: str | None = None,
        page: str | None = None,
        mode: str | None = None,
        pool: str | None = None,
        delay: float | None = None,
        retries: int | None = None,
        key: str | None = None,
    ) -> Text:
        """Submits a job for the handler `kind`. Returns its id.

        `page` receives its progress and end. `delay` is in seconds. A second job with the same `key` within a day is
        the first one.
        """
        params = job_params(kind, data, SAME_USER if user is None else user, mode, pool, delay, retries, key)
        if page is not None:
            params["page"] = page
        return self._context._ask("job.submit", params, lambda value: value["job"])  # type: ignore[no-any-return]

    def wait(self, job: str, timeout: float = 60) -> Record:
        """Waits for the end of a job and returns the job.

        Raises Error with the code `timeout` if it has not ended after `timeout` seconds.
        """
        return self._context._drive(_wait(job, timeout))  # type: ignore[no-any-return]

    def result(self, job: str, timeout: float = 60) -> Value:
        """Waits for the end of a job and returns its result.

        Raises Error with the job's error if it has not succeeded.
        """
        return self._context._drive(_result(job, timeout))  # type: ignore[no-any-return]


def _wait(job: str, timeout: float) -> Steps[dict[str, Any]]:
    began = time.monotonic()
    while True:
        record: dict[str, Any] = yield ("job.get", {"job": job})
        if record["state"] in ENDS:
            return record
        passed = time.monotonic() - began
        if passed >= timeout:
            raise Error("timeout", f"the job {job} is still {record['state']}", True)
        # a wait is at most a quarter longer than the job takes
        yield Pause(min(max(0.001, passed / 4), 1.0, timeout - passed))


def _result(job: str, timeout: float) -> Steps[Any]:
    record = yield from _wait(job, timeout)
    if record["state"] == "succeeded":
        return record.get("result")
    error = record.get("error") or {"code": record["state"], "message": f"the job {job} is {record['state']}"}
    raise Error(error["code"], error["message"], error.get("retryable", False))


class BaseClient(Requester[Sent], Generic[Value, Sent, Read, Revision, Text, Record, EditType]):
    """What both clients have in common. The parameters are the types that its requests return."""

    _edit_type: type[Any]

    def __init__(self, url: str = "http://127.0.0.1:8080", api_key: str | None = None, *, timeout: float = 30) -> None:
        self._pool = Pool(url, api_key, timeout)

    @property
    def state(self) -> Trees[Value, Read, Revision, EditType]:
        """The state trees: `client.state.of("user", "ada").get("last.query")`."""
        return Trees(self)

    @property
    def jobs(self) -> ClientJobs[Text, Record, Value]:
        """Durable jobs."""
        return ClientJobs(self)

    def call(
        self,
        method: str,
        params: Any = None,
        *,
        user: str | None = None,
        page: str | None = None,
        mode: str | None = None,
        pool: str | None = None,
        timeout: float | None = None,
    ) -> Value:
        """Calls a handler and returns its result. `timeout` is in seconds."""
        asked = call_params(method, params, SAME_USER if user is None else user, mode, pool, timeout)
        if page is not None:
            asked["page"] = page
        return self._ask("call", asked)  # type: ignore[no-any-return]

    def stats(self) -> Record:
        """Returns what `GET /api/v1/stats` counts: pages, sessions, connections and users of the cluster."""
        return self._ask("stats", {})  # type: ignore[no-any-return]

    def _request(self, method: str, params: dict[str, Any]) -> Any:
        """Sends a request and waits for its value."""
        limit = params.get("timeout_ms") if method == "call" else None
        response = self._pool.request(route(method, params), None if limit is None else limit / 1000)
        if method == "state.get" and response.status == 404 and params.get("path"):
            whole = {name: value for name, value in params.items() if name != "path"}
            return missing_value(params, self._request(method, whole))
        return value_of(method, params, response)


class Client(BaseClient[Any, Reach, Reading, int, str, "dict[str, Any]", Edit]):
    """A client of the server API: `Client("http://127.0.0.1:8080", api_key="…").call("sum", [1, 2])`.

    It keeps connections open, and several threads may use it.
    """

    _edit_type = Edit

    def close(self) -> None:
        """Closes the idle connections."""
        self._pool.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def _ask(self, method: str, params: Any, shape: Callable[[Any], Any] | None = None) -> Any:
        value = self._request(method, params)
        return value if shape is None else shape(value)

    def _drive(self, steps: Steps[Any]) -> Any:
        return drive(steps, self._ask, time.sleep)


class AsyncClient(
    BaseClient[
        Awaitable[Any],
        Awaitable[Reach],
        Awaitable[Reading],
        Awaitable[int],
        Awaitable[str],
        "Awaitable[dict[str, Any]]",
        AsyncEdit,
    ]
):
    """A client of the server API for asyncio: `await AsyncClient().call("sum", [1, 2])`.

    Its requests run in threads.
    """

    _edit_type = AsyncEdit

    def __init__(self, url: str = "http://127.0.0.1:8080", api_key: str | None = None, *, timeout: float = 30) -> None:
        from concurrent.futures import ThreadPoolExecutor

        super().__init__(url, api_key, timeout=timeout)
        self._threads = ThreadPoolExecutor(32, "pagewire-client")

    async def close(self) -> None:
        """Closes the idle connections and ends the threads."""
        self._threads.shutdown(wait=False)
        self._pool.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.close()

    async def _ask(self, method: str, params: Any, shape: Callable[[Any], Any] | None = None) -> Any:
        from asyncio import get_running_loop

        value = await get_running_loop().run_in_executor(self._threads, self._request, method, params)
        return value if shape is None else shape(value)

    def _drive(self, steps: Steps[Any]) -> Any:
        from asyncio import sleep

        return drive_async(steps, self._ask, sleep)
