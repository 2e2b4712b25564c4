#!/usr/bin/env bash
# Gives Rollcall's two roles the passwords that lie as files in /run/secrets. It comes after roles.sql in
# /docker-entrypoint-initdb.d of the official image, and may be run again at any time to take new passwords.
#
# A subshell: the image's entrypoint sources a script that is not executable, and must not end with it.
(
    set -euo pipefail
    for role in rollcall_process rollcall_query; do
        secret="${SECRETS:-/run/secrets}/${role//_/-}-postgres-password"
        password="$(cat "$secret")"
        [ -n "$password" ] || { echo "$secret is empty" >&2; exit 1; }
        PASSWORD="$password" psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set role="$role" \
            --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
-- The password stays out of the server's log, whatever happens.
set log_statement = 'none';
set log_min_error_statement = 'panic';
\getenv password PASSWORD
alter role :"role" password :'password';
SQL
    done
)
