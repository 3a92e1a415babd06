-- Run once by the image's own psql, when the volume is empty. The role owns its database, where promheal
-- makes its tables, and may nothing beyond it.
\set password `cat /etc/postgres-passwords/promheal`
CREATE ROLE promheal LOGIN PASSWORD :'password';
CREATE DATABASE promheal OWNER promheal;
REVOKE ALL ON DATABASE promheal FROM PUBLIC;
