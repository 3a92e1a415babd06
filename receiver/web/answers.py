"""Errors are `{"error": {"code", "message"}}`, everywhere."""

from __future__ import annotations

from flask import Response, jsonify


def error(code: str, message: str, status: int) -> Response:
    response = jsonify({"error": {"code": code, "message": message}})
    response.status_code = status
    return response
