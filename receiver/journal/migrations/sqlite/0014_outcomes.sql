-- A rare outcome of one strategy is found without reading its other runs.

create index run_of_strategy_with_outcome on run (strategy, outcome, id) where outcome is not null;
