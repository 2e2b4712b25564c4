-- Rollcall's roles, and the owner of its database. setup.sh runs this before the migrations, and grants.sql after them.
do $$
declare
    name text;
    kind text;
    is_outsider boolean;
begin
    foreach name in array array['rollcall_owner', 'rollcall_process', 'rollcall_query', 'rollcall_backup'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I', name);
        end if;
    end loop;
    if not pg_has_role('rollcall_owner', 'usage') then -- an administrator who is no superuser
        grant rollcall_owner to current_user;
    end if;

    -- Up to version 2 rollcall_process owned everything.
    if exists (
        select from pg_database where datname = current_database() and datdba = 'rollcall_process'::regrole
        union all
        select from pg_class where relnamespace = 'public'::regnamespace and relowner = 'rollcall_process'::regrole
    ) then
        is_outsider := not pg_has_role('rollcall_process', 'usage');
        if is_outsider then
            grant rollcall_process to current_user;
        end if;
        alter default privileges for role rollcall_process in schema public revoke all on tables from rollcall_query;
        execute format('alter database %I owner to rollcall_owner', current_database());
        alter schema public owner to rollcall_owner;
        for kind, name in
            select case relkind when 'S' then 'sequence' else 'table' end, oid::regclass
            from pg_class
            where relnamespace = 'public'::regnamespace and relowner = 'rollcall_process'::regrole
                and (relkind = 'r' or relname = 'ticks') -- what belongs to a table follows it
        loop
            execute format('alter %s %s owner to rollcall_owner', kind, name);
        end loop;
        if is_outsider then
            revoke rollcall_process from current_user;
        end if;
    end if;
    execute format('alter database %I owner to rollcall_owner', current_database());
    alter schema public owner to rollcall_owner;

    if (select rolsuper from pg_roles where rolname = current_user) then -- what nobody else may say
        -- Anyone may make large objects until then.
        revoke execute on function lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea) from public;
        -- The server's log keeps nobody's data: a statement that failed may have the name that was asked for, and the
        -- detail of an error a row.
        foreach name in array array['rollcall_process', 'rollcall_query'] loop
            execute format('alter role %I set log_min_error_statement = panic', name);
            execute format('alter role %I set log_error_verbosity = terse', name);
        end loop;
    end if;
end
$$;

alter role rollcall_owner nologin; -- an administrator becomes it by `set role`; there is no password to lose
alter role rollcall_process login;
alter role rollcall_query login;
alter role rollcall_backup login;

-- A client that vanished in mid-transaction holds no lock for long. The functions' own sessions set shorter limits.
alter role rollcall_process set idle_in_transaction_session_timeout = '5min';
alter role rollcall_query set idle_in_transaction_session_timeout = '1min';

-- Beside what grants.sql denies them: a mistake of the role's own is an error, too.
alter role rollcall_query set default_transaction_read_only = on;
alter role rollcall_backup set default_transaction_read_only = on;
