"""`python -m receiver` is `promheal`."""

from __future__ import annotations

from receiver.cli import main

main()
