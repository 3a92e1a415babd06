-- works with schema 5
-- Writers of different targets wait for each other no more. A version from before it counts into
-- total only, and shows what it has counted itself until it is replaced.

create table total_part (                           -- lifetime counters, in parts that add up
    metric text not null,
    labels text not null,
    part   integer not null,                        -- of some of the connections that count
    value  double precision not null,
    since  double precision not null,               -- by the database's clock
    primary key (metric, labels, part)
);

create view totals as
select metric, labels, sum(value) as value, min(since) as since from (
    select metric, labels, value, since from total
    union all select metric, labels, value, since from total_part) as t
group by metric, labels;

create or replace function fence(held text, mine bigint) returns void language plpgsql as $$
begin
    -- Who takes it over waits for our end; who extends the lease does not.
    perform 1 from claim where target = held and epoch = mine for key share;
    if not found then
        raise exception 'somebody else has taken % over', held using errcode = 'PH001';
    end if;
end $$;
