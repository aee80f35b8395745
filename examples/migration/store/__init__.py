"""The store room: a stock list that several people use at the same time."""
