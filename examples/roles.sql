-- Two roles for a store: wfe_owner migrates, wfe_app works. To be run once, by an administrator of the database, before
-- the first upgrade:
--
--     psql -d shop -f examples/roles.sql
--     wfe-postgres upgrade --url postgresql://wfe_owner@localhost/shop
--     wfe-postgres check --url postgresql://wfe_app@localhost/shop
--
-- How the two log in is your server's affair: `\password wfe_owner` in psql gives them passwords.
-- For a store that is there already, write its owner's name for wfe_owner, and leave out that CREATE ROLE.

CREATE ROLE wfe_owner LOGIN;
CREATE ROLE wfe_app LOGIN;

-- With a schema of its own the owner needs no right to create one, nor any other in the database.
CREATE SCHEMA IF NOT EXISTS wfc AUTHORIZATION wfe_owner;

-- All that hosts and applications need: no DDL, no TRUNCATE.
GRANT USAGE ON SCHEMA wfc TO wfe_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA wfc TO wfe_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA wfc TO wfe_app;

-- The same for what the owner's upgrades will create.
ALTER DEFAULT PRIVILEGES FOR ROLE wfe_owner IN SCHEMA wfc GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO wfe_app;
ALTER DEFAULT PRIVILEGES FOR ROLE wfe_owner IN SCHEMA wfc GRANT USAGE ON SEQUENCES TO wfe_app;
