"""Whom does promheal ask over HTTP, and how? Bounded in time and size, whoever answers."""
