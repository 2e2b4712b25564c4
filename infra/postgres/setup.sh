#!/bin/sh
# Set up Rollcall's database: roles, pending migrations, privileges, and the passwords of the roles that log in. Run it
# for a first deployment, for an upgrade, and to change passwords. It is safe to run at any time, even concurrently and
# while the functions are running.
#
#     export PGHOST=db.example PGUSER=postgres
#     createdb --encoding=UTF8 rollcall # the first time
#     PGDATABASE=rollcall SECRETS=secrets infra/postgres/setup.sh
#
# Run it as a superuser, or always as the same administrator, who has CREATEROLE and CREATEDB and created the database.
# psql's environment variables select the database. $SECRETS is the directory of the files
# rollcall-{process,query,backup}-postgres-password; if it is unset, passwords do not change. $MIGRATIONS is the
# directory of the migrations; the default is the one beside this file.
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
migrations="${MIGRATIONS:-$here/migrations}"
roles='rollcall_process rollcall_query rollcall_backup'

password_file() {
    echo "$SECRETS/$(echo "$1" | tr _ -)-postgres-password"
}

# Strip surrounding white space, as the functions do.
read_password() {
    text="$(cat "$(password_file "$1")")"
    text="${text#"${text%%[![:space:]]*}"}"
    printf '%s' "${text%"${text##*[![:space:]]}"}"
}

# The server logs neither COPY data nor the statements that a DO block executes, so it never logs the passwords.
set_passwords() {
    cat <<'SQL'
begin;
create temporary table passwords (role text, password text) on commit drop;
copy passwords from stdin (format csv);
SQL
    for role in $roles; do
        printf '%s,"%s"\n' "$role" "$(read_password "$role" | sed 's/"/""/g')"
    done
    cat <<'SQL'
\.
do $$
declare
    role text;
    password text;
begin
    for role, password in table passwords loop
        begin
            execute format('alter role %I password %L', role, password);
        exception when others then
            -- a new exception, because the context of the caught one has the password
            raise exception 'cannot set the password of %: %', role, sqlerrm;
        end;
    end loop;
end
$$;
commit;
SQL
    for role in $roles; do
        printf '\\echo password set: %s\n' "$role"
    done
}

apply_migrations() {
    for file in "$migrations"/*.sql; do
        printf '\\set name %s\n' "$(basename "$file" .sql)"
        cat <<'SQL'
begin;
select not exists (select from migrations where name = :'name') as is_pending \gset
\if :is_pending
    \i :migrations/:name.sql
    insert into migrations (name) values (:'name');
\endif
commit;
\if :is_pending
    \echo applied :name
\endif
SQL
    done
}

set_up() {
    cat <<'SQL'
set client_encoding = 'UTF8';
set client_min_messages = warning;
set search_path = public;
set statement_timeout = 0;
set idle_in_transaction_session_timeout = 0;
-- "rollcall" in ASCII. The lock is held until the session ends.
select pg_advisory_lock(x'726f6c6c63616c6c'::bigint) as locked \gset
do $$
begin
    if getdatabaseencoding() <> 'UTF8' then
        raise exception 'the encoding of the database is %; expected UTF8', getdatabaseencoding();
    elsif lower(chr(321)) <> chr(322) then -- L with stroke
        raise exception 'in the locale of the database, lower() changes only ASCII letters'
            using hint = 'Create a database with another locale, and restore a dump into it if this one has data: '
                'createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8';
    end if;
end
$$;
begin;
\i :here/roles.sql
commit;
set role rollcall_owner;
create table if not exists migrations (name text primary key, applied_at timestamptz default now());
SQL
    apply_migrations
    cat <<'SQL'
reset role; -- grants.sql covers all tables in the schema, and rollcall_owner can grant access only to its own
begin;
\i :here/grants.sql
commit;
\echo roles and privileges set
SQL
    [ -z "${SECRETS:-}" ] || set_passwords
}

if [ -n "${SECRETS:-}" ]; then
    for role in $roles; do
        [ -n "$(read_password "$role")" ] || { echo "$(password_file "$role"): expected a password" >&2; exit 1; }
    done
fi
set_up | psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set here="$here" --set migrations="$migrations"
