-- Rollcall's roles, and the owner of its database. setup.sh runs this before the migrations.
do $$
declare
    name text;
    has_old_owner boolean;
    needs_membership boolean;
begin
    foreach name in array array['rollcall_owner', 'rollcall_process', 'rollcall_query', 'rollcall_backup'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I', name);
        end if;
    end loop;
    if not pg_has_role('rollcall_owner', 'usage') then -- an administrator who is not a superuser
        grant rollcall_owner to current_user;
    end if;

    -- Before version 2, rollcall_process owned everything.
    has_old_owner := exists (
        select from pg_database where datname = current_database() and datdba = 'rollcall_process'::regrole
        union all
        select from pg_class where relnamespace = 'public'::regnamespace and relowner = 'rollcall_process'::regrole
    );
    needs_membership := has_old_owner and not pg_has_role('rollcall_process', 'usage');
    if needs_membership then
        grant rollcall_process to current_user;
    end if;
    execute format('alter database %I owner to rollcall_owner', current_database());
    alter schema public owner to rollcall_owner;
    if has_old_owner then
        alter default privileges for role rollcall_process in schema public revoke all on tables from rollcall_query;
        for name in
            select oid::regclass
            from pg_class
            where relnamespace = 'public'::regnamespace and relowner = 'rollcall_process'::regrole
                and relkind = 'r' -- indexes and sequences follow their table
        loop
            execute format('alter table %s owner to rollcall_owner', name);
        end loop;
    end if;
    if needs_membership then
        revoke rollcall_process from current_user;
    end if;

    if (select rolsuper from pg_roles where rolname = current_user) then -- only a superuser may run these statements
        -- By default every role can create large objects.
        revoke execute on function lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea) from public;
        -- Keep personal data out of the server's log: a failed statement may contain a queried name, and the details
        -- of an error may contain a row.
        foreach name in array array['rollcall_process', 'rollcall_query'] loop
            execute format('alter role %I set log_min_error_statement = panic', name);
            execute format('alter role %I set log_error_verbosity = terse', name);
        end loop;
    end if;
end
$$;

alter role rollcall_owner nologin; -- used by administrators through `set role`; it has no password
alter role rollcall_process login;
alter role rollcall_query login;
alter role rollcall_backup login;

-- End sessions of these two roles (such as psql's) that are idle in a transaction, as they may hold locks. The
-- functions set one minute in their own sessions.
alter role rollcall_process set idle_in_transaction_session_timeout = '5min';
alter role rollcall_query set idle_in_transaction_session_timeout = '1min';

-- A second safeguard besides grants.sql: transactions of these roles are read-only by default.
alter role rollcall_query set default_transaction_read_only = on;
alter role rollcall_backup set default_transaction_read_only = on;
