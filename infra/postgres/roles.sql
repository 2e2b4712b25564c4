-- Rollcall's two roles and what each may do. Run it as a superuser, connected to Rollcall's database:
--
--     createdb rollcall && psql -d rollcall -f infra/postgres/roles.sql
--
-- It may be run again at any time. Passwords are set apart from it (psql: \password rollcall_process).
do $$
begin
    if not exists (select from pg_roles where rolname = 'rollcall_process') then
        create role rollcall_process login;
    end if;
    if not exists (select from pg_roles where rolname = 'rollcall_query') then
        create role rollcall_query login;
    end if;
    -- process-data owns the schema: it applies the migrations.
    execute format('alter database %I owner to rollcall_process', current_database());
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to rollcall_query', current_database());
end
$$;

alter schema public owner to rollcall_process;
revoke all on schema public from public;
grant usage on schema public to rollcall_query;

-- query-data reads, the tables that are there and those to come.
grant select on all tables in schema public to rollcall_query;
alter default privileges for role rollcall_process in schema public grant select on tables to rollcall_query;
alter role rollcall_query set default_transaction_read_only = on;

-- A client that vanished in mid-transaction holds no lock for long. The functions' own sessions set shorter limits.
alter role rollcall_process set idle_in_transaction_session_timeout = '5min';
alter role rollcall_query set idle_in_transaction_session_timeout = '1min';
