"""Handlers of a shop. SHOP_FAULT is the release that cannot look up prices."""

import os

from pagewire import App, Context

RELEASE = os.environ["SHOP_RELEASE"]

app = App()


@app.handler
def price(ctx: Context, article: int) -> dict:
    if os.environ.get("SHOP_FAULT"):
        raise KeyError(article)
    return {"release": RELEASE, "cents": 100 * article}


@app.handler(retries=20)
def order(ctx: Context, article: int) -> dict:
    return {"ordered": article, "price": price(ctx, article)}
