"""An application of the Python SDK that echoes, for `pagewire-bench children`. Usage: sdk.py STYLE."""

import sys

from pagewire import App

STYLE = sys.argv[1]
app = App(threads=1, slots=64) if STYLE == "blocking" else App(slots=64, threads=8)

if STYLE == "asyncio":

    @app.handler
    async def echo(ctx, text):
        return {"text": text}

else:

    @app.handler
    def echo(ctx, text):
        return {"text": text}


app.run()
