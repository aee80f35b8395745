"""The tables of the store room."""
