-- works with schema 5
-- Whoever takes a target over changes its epoch. A unique column is part of a row's key, so that
-- waits for all that is being written with the fence, which keeps the key; also in a version that
-- had one lock for all of that, and asks for no other.

create unique index claim_epoch on claim (epoch);
