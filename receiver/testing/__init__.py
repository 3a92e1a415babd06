"""`promheal test`: does a configuration do what its tests expect?

file.py, expected.py   what a test file says, and what it expects
reader.py, inline.py   a file to values, with every problem at its place; its configuration
events.py              what people and the world do meanwhile
case.py                one test: a world that passes from one expectation to the next
expectations.py        is it as expected? expected_runs.py of runs; difference.py if not
seen.py, samples.py    decisions, runs, times and metrics, as a test shows them
invariants.py          what must never happen
coverage.py            which steps, outcomes and guards the tests have seen
report.py, trace.py    the results in four forms; what happened, a line an event
first.py               a first test file for a configuration
"""
