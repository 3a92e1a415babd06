"""The API server of Kubernetes, and who we are to it: the few REST calls that promheal needs."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from receiver.clients.http_exchange import fetch
from receiver.errors import ActionError
from receiver.policy.http_config import (
    Authorization,
    BasicAuth,
    HTTPConfig,
    TLSConfig,
    with_ca_file,
)
from receiver.policy.texts import FilePath, Url

_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its account's token and the cluster's certificate authority."""
_MAX_ANSWER: Final = 4 * 1024 * 1024  # bytes

_T = TypeVar("_T")


class MissingError(ActionError):
    """The cluster has no such object."""


class Cluster(HTTPConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the API server is, and who we are to it. The defaults are those of a pod."""

    api: Annotated[
        Url,
        msgspec.Meta(
            examples=["https://kubernetes.default.svc"],
            extra={"amend": "https://{}"},
        ),
    ] = "https://kubernetes.default.svc"
    """Of the API server."""
    token_file: Annotated[
        FilePath, msgspec.Meta(extra={"instead": "authorization: {credentials_file: …}"})
    ] = f"{_ACCOUNT}/token"
    """That of a pod; read at each call, for it is rotated. `basic_auth` and `authorization` win,
    and another path is deprecated for `authorization.credentials_file`."""
    ca_file: FilePath = f"{_ACCOUNT}/ca.crt"
    """That of a pod; short for `tls_config.ca_file`, which wins."""

    @property
    def login(self) -> BasicAuth | Authorization | None:
        return super().login or Authorization(credentials_file=self.token_file)

    @property
    def tls(self) -> TLSConfig:
        if self.tls_config.insecure_skip_verify:
            return self.tls_config
        return with_ca_file(self.tls_config, self.ca_file)

    def ask(
        self, method: str, path: str, kind: type[_T], *, timeout: float,
        body: dict[str, Any] | None = None,
    ) -> _T:  # fmt: skip
        """Return the object that the server answers with.

        Raises MissingError when there is no such object, and ActionError for all else.
        """
        if timeout <= 0:
            raise ActionError("no time left to ask the API server")
        self._refuse_unreadable()
        content = "strategic-merge-patch" if method == "PATCH" else ""
        reply = fetch(
            method,
            self.api.rstrip("/") + path,
            timeout=timeout,
            body=None if body is None else msgspec.json.encode(body),
            headers={
                "Accept": "application/json",
                **(
                    {}
                    if body is None
                    else {
                        "Content-Type": f"application/{content}+json"
                        if content
                        else "application/json"
                    }
                ),
            },
            most=_MAX_ANSWER,
            config=self,
        )
        if not 200 <= reply.status < 300:
            kind_of_error = MissingError if reply.status == HTTPStatus.NOT_FOUND else ActionError
            raise kind_of_error(_refusal(method, path, reply.status, reply.body))
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ActionError(f"{path}: the answer is not Kubernetes': {error}") from None

    def may(self, verb: str, resource: str, namespace: str, name: str, *, timeout: float) -> bool:
        """Whether our account may do that: a SelfSubjectAccessReview, which everybody may ask.

        *name* is the object's: a role that lists `resourceNames` allows nothing without it. The
        answer is about the role alone, whether there is such an object or not.
        """
        kind, _, subresource = resource.partition("/")
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": verb,
                    "group": "apps",
                    "resource": kind,
                    "subresource": subresource,
                    "name": name,
                }
            },
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return self.ask("POST", path, _Review, timeout=timeout, body=review).status.allowed

    def _refuse_unreadable(self) -> None:
        """Raise ActionError where a pod's token is missing, with the remedy."""
        if super().login is not None:
            return
        try:
            Path(self.token_file).read_bytes()
        except OSError as error:
            raise ActionError(
                f"the token of promheal's service account cannot be read: {error}; outside a pod, "
                "write `token_file`"
            ) from None


class _Allowed(msgspec.Struct):
    allowed: bool


class _Review(msgspec.Struct):
    status: _Allowed


class _Refusal(msgspec.Struct):
    message: str = ""


def _refusal(method: str, path: str, status: int, body: bytes) -> str:
    try:
        said = msgspec.json.decode(body, type=_Refusal).message[:300]
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = body[:300].decode("utf-8", "replace")
    match status:
        case 401:
            return f"the API server does not know our token: {said}"
        case 403:
            return (
                f"promheal's service account may not {method.lower()} {path}: {said}; where its "
                "role lists `resourceNames`, every other name is refused like this, one that does "
                "not exist too: compare the name with the role's and the cluster's"
            )
        case 404:
            return f"the cluster has no {path}, nothing was touched: {said}"
        case _:
            return f"{method} {path} answered {status}: {said}"
