"""A module that runs its application, without a guard."""

from pagewire import App

app = App(threads=1)


@app.handler
def hello(ctx):
    return "hello"


app.run()
