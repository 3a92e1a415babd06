"""Everything that a heal needs, started for real: what `promheal demo` shows.

    service.py    the web service that can be made sick
    faults.py     how, and which alert sees it
    visitors.py   those who use it meanwhile
    chain.py      both, supervisord, Prometheus, Alertmanager and promheal, in one temporary folder
    watch.py      what each of them says now, and what of it is news
    story.py      make it sick, follow what happens, and hold Prometheus to its word
    narrator.py   lines for people, on a terminal or in a log

The `.yml` and `.conf` files here are the configuration of the chain; `${…}` in them is
filled in by chain.py.
"""
