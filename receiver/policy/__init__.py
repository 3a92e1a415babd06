"""What is thought: values, and functions of values with `now` as an argument.

Nothing here reads a clock, a file, a socket or the database.
"""
