-- Which firing a decision is about.

alter table decision add column episode integer;        -- the newest that asked, the last time; null: none fired
