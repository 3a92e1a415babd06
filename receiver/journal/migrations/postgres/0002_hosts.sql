-- works with schema 1
-- Many processes: who has which target in hand, who is alive, and what they share.

alter table run add column runs_on text not null default '';
create index run_elsewhere on run (runs_on) where runs_on <> '' and state <> 'finished';

create sequence epoch;

create table claim (                                -- a target that is being considered
    target text primary key,
    epoch  bigint not null,                         -- every write of its holder carries it
    worker text not null,
    until  timestamptz not null                     -- nobody else takes it over before
);
create index claim_worker on claim (worker);

create function fence(held text, mine bigint) returns void language plpgsql as $$
begin
    if not exists (select 1 from claim where target = held and epoch = mine) then
        raise exception 'somebody else has taken % over', held using errcode = 'PH001';
    end if;
end $$;

create table worker (                               -- a process that carries work
    id      text primary key,
    host    text not null,                          -- where it is, for people
    machine text not null,                          -- and for who could see that it has ended
    pid     bigint not null,
    born    bigint not null,                        -- when the process was started, for pids recur
    number  bigint not null,                        -- procrastinate's for it
    names   text[] not null,                        -- what it executes steps for; '' for unbound ones
    version text not null,
    engine  text not null,                          -- version of procrastinate
    seen    timestamptz not null
);

create table secret (                               -- what all receivers must have in common
    name  text primary key,
    value bytea not null
);
insert into secret (name, value)
values ('forms', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

create table engine_migration (                     -- of procrastinate's schema
    name text primary key,
    at   timestamptz not null default now()
);
