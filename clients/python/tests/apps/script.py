"""An application that is started as a script."""

from pagewire import App

board = App(threads=1)


@board.handler
def hello(ctx, name: str = "you"):
    return f"hello {name}"


if __name__ == "__main__":
    board.run()
