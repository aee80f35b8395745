"""An application with a handler that has a type hint without a check."""

from pagewire import App

app = App()


class Thing:
    pass


@app.handler
def use(ctx, thing: Thing):
    return None
