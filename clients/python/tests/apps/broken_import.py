"""An application that fails while it is imported."""

from pagewire import App

app = App()


def build():
    raise RuntimeError("no database")


build()
