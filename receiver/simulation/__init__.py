"""A promheal in virtual time: what would it do, if the world were as a script says?

The intake, the decisions, the runs and their proof are the live ones, on a journal in memory. What
stands around them is simulated: Prometheus and Alertmanager by a timeline, and the actions, which
touch nothing. So `promheal test` and a backtest try a configuration with the engine that will use
it.

    series.py       promtool's series notation
    script.py       what the world is: alerts, queries, actions
    course.py       what a series is at a time
    upstream.py     Prometheus and Alertmanager, as they answer
    notifier.py     Alertmanager, as it notifies
    actions.py      actions that succeed, fail and take time, and touch nothing
    skipping.py     which looks can change nothing
    process.py      one life of a promheal, until it is killed
    world.py        all of it together
"""
