"""What of deploy/ is made from other files? `make generate` writes it, and tests hold it to be new.

The rules as the Prometheus Operator takes them, and the list of dashboards that Kustomize makes
ConfigMaps of: Kustomize reads no files from outside a folder, but folders from anywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Final

_RULES: Final = "deploy/kubernetes/monitoring/prometheusrules.yaml"
_DASHBOARDS: Final = "grafana/dashboards/kustomization.yaml"

_RULE: Final = """\
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: promheal-{name}
  namespace: promheal
  labels:
    app.kubernetes.io/name: promheal
    app.kubernetes.io/part-of: promheal
spec:
{spec}"""

_LIST: Final = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization

generatorOptions:
  disableNameSuffixHash: true
  labels:
    grafana_dashboard: "1"

configMapGenerator:
"""

_DASHBOARD: Final = """\
  - name: {name}
    namespace: promheal
    files: [{file}]
"""


def generated(repository: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file with its text."""
    rules = "".join(
        _RULE.format(
            name=path.stem.replace("_", "-"), spec=indent(path.read_text(encoding="utf-8"), "  ")
        )
        for path in sorted((repository / "rules").glob("*.yml"))
    )
    yield repository / _RULES, f"# Made from rules/ by `make generate`.\n{rules}"
    dashboards = sorted((repository / "grafana/dashboards").glob("*.json"))
    if dashboards:
        entries = "".join(_DASHBOARD.format(name=path.stem, file=path.name) for path in dashboards)
        yield repository / _DASHBOARDS, f"# Made by `make generate`.\n{_LIST}{entries}"


def main(repository: Path) -> None:
    for path, text in generated(repository):
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]))
