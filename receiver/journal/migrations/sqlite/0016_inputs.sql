-- What was known when a decision was made, and by which configuration.

create table decision_input (
    decision     integer primary key references decision (id) on delete cascade,
    at           real not null,             -- the decision's last_at
    config_hash  text not null,
    inputs       blob,                      -- zlib of JSON: what was known the last time,
    first_inputs blob                       -- and the first time, of what was repeated
);
create index decision_input_age on decision_input (at)
    where inputs is not null or first_inputs is not null;
