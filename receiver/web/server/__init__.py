"""How requests come in: the sockets, HTTP framing, TLS, and gunicorn in one process."""
