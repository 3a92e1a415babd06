-- works with schema 5
-- Which firing a decision is about.

alter table decision add column episode bigint;        -- the newest that asked, the last time; null: none fired
