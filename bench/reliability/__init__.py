"""The 29 tests of a receiver that can be relied on: what is wanted, and what was reached."""
