-- works with schema 5
-- How an episode ended, and what it had asked for.

alter table episode add column ended_by text not null default '';   -- told, proven or given_up
alter table episode add column cleared_at double precision;         -- when its own expression first proved it

create table selected (                     -- what closed episodes asked for
    episode  bigint not null references episode (id) on delete cascade,
    strategy text not null,
    target   text not null,
    primary key (episode, strategy, target)
);
