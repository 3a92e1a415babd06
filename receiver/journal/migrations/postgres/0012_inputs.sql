-- works with schema 5
-- What was known when a decision was made, and by which configuration.

create table decision_input (
    decision     bigint primary key references decision (id) on delete cascade,
    at           double precision not null, -- the decision's last_at
    config_hash  text not null,
    inputs       bytea,                     -- zlib of JSON: what was known the last time,
    first_inputs bytea                      -- and the first time, of what was repeated
);
create index decision_input_age on decision_input (at)
    where inputs is not null or first_inputs is not null;
