"""Visitors of a web service, who come again and again, whether it is well or not.

python -m receiver.demo.visitors HOST:PORT
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from typing import Final

VISITORS: Final = 8
"""At the same time: a slow answer keeps one visitor waiting, not the others."""
PAUSE: Final = 0.5  # seconds between an answer and the next question
TIMEOUT: Final = 5.0  # seconds


def visit(address: str) -> None:
    """Ask for ever. What goes wrong is Prometheus' to see, in the service's own numbers."""
    while True:
        connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass  # it is being restarted
        finally:
            connection.close()
        time.sleep(PAUSE)


def main(address: str) -> None:
    for _ in range(VISITORS):
        threading.Thread(target=visit, args=(address,), daemon=True).start()
        time.sleep(PAUSE / VISITORS)  # not all at the same moment
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
