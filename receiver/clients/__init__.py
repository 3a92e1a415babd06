"""Clients of what is asked over HTTP: one bounded client, and the APIs of upstreams on it."""
