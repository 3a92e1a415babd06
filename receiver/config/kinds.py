"""Of which kinds may a part of a service be, and how does services.yml tell them apart?

A kind is a struct with fields of its own. Reader and schema take all of them from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from receiver.services import Cache, Manager, Queue, Workers
from receiver.services.caches import CACHES
from receiver.services.managers import MANAGERS
from receiver.services.queues import QUEUES
from receiver.services.workers.kinds import WORKERS
from receiver.yaml.diagnostics import Report, quoted, suggestion
from receiver.yaml.keys import MappingKey, construct, read_keys, value_of
from receiver.yaml.nodes import Node, Pairs
from receiver.yaml.scalars import BAD, Read, choice, expected, key_text, mark
from receiver.yaml.values import Readers

Structs = Mapping[str, type[msgspec.Struct]]
"""The kinds by name."""
Schema = dict[str, Any]
StructSchema = Callable[[type[msgspec.Struct]], Schema]


class Kinds(Protocol):
    """The kinds that may stand at one place."""

    @property
    def structs(self) -> Structs:
        """All of them."""

    def reader(self, readers: Readers) -> Read:
        """Return the reader of whichever kind is written there."""

    def schema(self, of: StructSchema) -> Schema:
        """Return the schema of all kinds; *of* gives that of one."""


class ByName(NamedTuple):
    """`{docker: {container: shop}}`: the only key names the kind, and holds its fields."""

    what: str
    structs: Structs

    def reader(self, readers: Readers) -> Read:
        what, structs, known = self.what, self.structs, ", ".join(self.structs)

        def read(node: Node, report: Report) -> Any:
            if not isinstance(node, Pairs):
                return expected(f"a mapping with one {what}", node, report, f"known: {known}")
            if not node.pairs:
                return mark(node, report, f"a {what} is missing; known: {known}")
            for key, _ in node.pairs[1:]:
                mark(key, report, f"a second {what}; a service has one")
            key, value = node.pairs[0]
            name = key_text(key, report)
            if name is None:
                return BAD
            if name not in structs:
                near = suggestion(name, structs)
                return mark(key, report, f"unknown {what} {quoted(name)}{near}")
            found = readers.of(structs[name])(value, report)
            return found if len(node.pairs) == 1 else BAD

        return read

    def schema(self, of: StructSchema) -> Schema:
        return {
            "type": "object",
            "properties": {name: of(struct) for name, struct in self.structs.items()},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }


class ByTag(NamedTuple):
    """`{scale: gunicorn, pidfile: /run/x.pid}`: the value of one key names the kind."""

    tag: str
    structs: Structs

    def reader(self, readers: Readers) -> Read:
        tag, structs, known = self.tag, self.structs, ", ".join(self.structs)

        def read(node: Node, report: Report) -> Any:
            if not isinstance(node, Pairs):
                return expected("a mapping", node, report, f"write {tag}: and one of {known}")
            named = value_of(node, tag)
            if named is None:
                return mark(node, report, f"missing key {tag!r}; known: {known}")
            kind = choice(structs)(named, report)
            if kind is BAD:
                return BAD
            own = {tag: MappingKey(read=lambda *_: None, required=True, field=tag)}
            values = read_keys(node, report, own | readers.keys(kind))
            if values is None:
                return BAD
            del values[tag]
            return construct(kind, values, node, report)

        return read

    def schema(self, of: StructSchema) -> Schema:
        return {"anyOf": [self._tagged(name, of(each)) for name, each in self.structs.items()]}

    def _tagged(self, name: str, schema: Schema) -> Schema:
        return {
            **schema,
            "properties": {self.tag: {"const": name}, **schema["properties"]},
            "required": [self.tag, *schema.get("required", ())],
        }


class ByKey(NamedTuple):
    """`{redis: redis://host/0, match: "x:*"}`: a key that no other kind has tells the kind."""

    structs: Structs

    def reader(self, readers: Readers) -> Read:
        structs, known = self.structs, ", ".join(self.structs)

        def read(node: Node, report: Report) -> Any:
            if not isinstance(node, Pairs):
                return expected("a mapping", node, report, f"with one of the keys {known}")
            found = [name for name in structs if value_of(node, name) is not None]
            if not found:
                return mark(node, report, f"it must have one of the keys {known}")
            if len(found) > 1:
                return mark(node, report, f"{' and '.join(found)} are two kinds; write one")
            return readers.of(structs[found[0]])(node, report)

        return read

    def schema(self, of: StructSchema) -> Schema:
        return {"anyOf": [of(struct) for struct in self.structs.values()]}


_OTHERS: Final[Mapping[type, Kinds]] = {
    Workers: ByTag("scale", WORKERS),
    Cache: ByKey(CACHES),
    Queue: ByKey(QUEUES),
}


def service_kinds(managers: Structs = MANAGERS) -> Mapping[type, Kinds]:
    """Return the kinds of each part of a service, by the protocol that they fulfil."""
    return {Manager: ByName("manager", managers), **_OTHERS}
