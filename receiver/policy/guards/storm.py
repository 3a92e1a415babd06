"""Is one target affected, or everything?

Fifty targets that fire at once have one cause, which fifty restarts do not remove. So few are
treated at a time; each keeps its place until it is healthy, then the next one follows. Storm or
not, a strategy touches no more targets in a time than its `limits` allow.
"""

from __future__ import annotations

from receiver.policy.duration import format_duration
from receiver.policy.guards.situation import ALLOW, Reason, Situation, Verdict, wait


def storm(situation: Situation) -> Verdict:
    most = situation.bounds.storm_targets
    affected, treated = situation.around.affected, situation.around.treated
    if affected > most and treated >= most:
        return wait(
            Reason.STORM,
            None,
            f"more than {most} targets are affected, and {treated} others are being treated",
        )
    limits = situation.strategy.limits
    if limits is None:
        return ALLOW
    recent = [at for at in situation.past.latest_starts if at > situation.now - limits.per]
    if len(recent) < limits.targets:
        return ALLOW
    return wait(
        Reason.BLAST_RADIUS,
        # There is room again when so many of the oldest have left the window.
        recent[-limits.targets] + limits.per,
        f"{limits.targets} targets in {format_duration(limits.per)}",
    )
