"""All nouns of the journal in one transaction. A database supplies the hooks that are abstract."""

from __future__ import annotations

from receiver.journal.backlog import BacklogRows
from receiver.journal.breakers import BreakerRows
from receiver.journal.configurations import ConfigurationRows
from receiver.journal.decisions import DecisionRows
from receiver.journal.episodes import EpisodeRows
from receiver.journal.history import HistoryRows
from receiver.journal.operators import OperatorRows
from receiver.journal.outbox import OutboxRows
from receiver.journal.retention import RetentionRows
from receiver.journal.runs import RunRows
from receiver.journal.tables import WholeTables
from receiver.journal.totals import TotalRows


class Transaction(
    EpisodeRows,
    DecisionRows,
    RunRows,
    HistoryRows,
    BacklogRows,
    BreakerRows,
    OperatorRows,
    ConfigurationRows,
    OutboxRows,
    TotalRows,
    RetentionRows,
    WholeTables,
):
    """Reads and writes that happen together or not at all; of one thread at a time."""
