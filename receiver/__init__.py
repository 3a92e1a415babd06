"""promheal: a self-healing receiver for Prometheus Alertmanager.

The path of one alert, which is the order in which to read this package:

1. `web/webhook.py`          a request's bytes come in; the answer goes out
2. `policy/alert.py`         bytes become a Notification of Alerts
3. `healing/intake.py`       recorded in the `journal/`, committed, answered 202; wake
4. `engine/`                 calls `consider(strategy, target)` on a thread, now or at a time
5. `healing/reconciler.py`   asks what is known: the journal's history, Prometheus' answer
6. `policy/decide.py`        asks `policy/guards/` in order: Allow, Wait or Deny, with a reason
7. `healing/runner.py`       each step is committed as started, then its `actions/` act
8. `policy/proof/`           does Prometheus say that it healed? A timer until it is known
9. `journal/`                the outcome; `reporting/` tells it

A package is a kind of work: `policy` thinks, `clients` ask, `actions` act on `services`, `healing`
carries a run. The layers in pyproject.toml say which may use which.
"""
