"""The handlers of the board: orders in the state tree of their user, and a report as a job.

Run by Pagewire as `python -m pagewire orders:app`; it knows neither pages nor sockets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from pagewire import App, Context, Fail

Status = Literal["new", "packed", "sent"]

app = App()


@dataclass
class Order:
    """What a customer wants."""

    item: str
    count: int = 1


@app.handler
def list_orders(ctx: Context) -> dict:
    """Returns the orders of the user by their number."""
    return ctx.state.user.get("orders", {})


@app.handler
def add_order(ctx: Context, order: Order) -> dict:
    """Adds an order, and notifies all pages of the user. They watch the tree and show it."""
    if not ctx.user:
        raise Fail("forbidden", "log in first: orders belong to a user")
    if not order.item.strip() or not 1 <= order.count <= 99:
        raise Fail("malformed", "an order has an item, and a count from 1 to 99")
    added: dict = {}

    def add(tree) -> None:  # called again if another page was first
        number = tree.get("next", 1)
        tree["next"] = number + 1
        added.update(number=number, item=order.item.strip(), count=order.count, status="new")
        tree[f"orders.{number}"] = dict(added)

    ctx.state.user.update(add)
    ctx.user.send({"note": f"Order {added['number']} is new: {added['count']} × {added['item']}"})
    return added


@app.handler
def move_order(ctx: Context, number: int, status: Status) -> None:
    """Moves an order to another column."""

    def move(tree) -> None:
        if tree.get(f"orders.{number}") is None:
            raise Fail("not_found", f"there is no order {number}")
        tree[f"orders.{number}.status"] = status

    ctx.state.user.update(move)
    ctx.user.send({"note": f"Order {number} is {status}"})


@app.handler(timeout=120, retries=3)
def report(ctx: Context, seconds: float = 4) -> dict:
    """Counts the orders by their status; slow on purpose, to show progress, cancelling and a new attempt."""
    steps = max(1, round(seconds * 20))
    for _ in ctx.track(range(steps)):
        time.sleep(0.05)
    orders = ctx.state.user.get("orders", {}).values()
    counts = {status: sum(order["status"] == status for order in orders) for status in ("new", "packed", "sent")}
    return {"orders": len(orders), "attempt": ctx.attempt, **counts}
