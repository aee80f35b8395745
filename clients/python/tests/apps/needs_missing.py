"""An application that imports a package that is not installed."""

import a_package_that_is_not_installed

from pagewire import App

app = App()
