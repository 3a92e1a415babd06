"""promheal: a self-healing receiver for Prometheus Alertmanager.

The path of one alert, which is the order in which to read this package:

1. `web/webhook.py`   a request's bytes come in; the answer goes out
2. `alert.py`         bytes become a Notification of Alerts
3. `intake.py`        recorded in the journal, committed, answered 202; wake
4. `engine/`          calls `consider(strategy, target)` on a thread, now or at a time
5. `reconciler.py`    gathers what is known: the journal's history, Prometheus' answer
6. `decide.py`        asks `guards/` in order: Allow, Wait or Deny, with a reason and a time
7. `runner.py`        each step is committed as started, then its `actions/` act
8. `proof`            does Prometheus say that it healed? A timer, not a thread, until it is known
9. `journal/`         the outcome; `metrics.py` tells it
"""
