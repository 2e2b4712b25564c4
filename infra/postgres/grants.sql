-- What each role may do: all of it. What it was granted before ends in the same transaction. setup.sh runs this
-- after the migrations, so a migration that adds a table adds its line here.
revoke all on database :"DBNAME" from public, rollcall_process, rollcall_query, rollcall_backup;
revoke all on schema public from public, rollcall_process, rollcall_query, rollcall_backup;
revoke all on all tables in schema public from public, rollcall_process, rollcall_query, rollcall_backup;
revoke all on all sequences in schema public from public, rollcall_process, rollcall_query, rollcall_backup;

grant connect on database :"DBNAME" to rollcall_process, rollcall_query, rollcall_backup;
grant usage on schema public to rollcall_process, rollcall_query, rollcall_backup;

-- process-data: what its statements need.
grant select, insert, update, delete on users, erased, rejected, segments, hints to rollcall_process;
grant select, insert, update on runs to rollcall_process;
grant select, update on outputs to rollcall_process;
grant usage on sequence ticks, runs_id_seq to rollcall_process;
-- Version 1, after a rollback, looks for pending migrations and has temporary tables.
grant select on migrations to rollcall_process;
grant temporary on database :"DBNAME" to rollcall_process;

-- query-data, dashboards and people, and pg_dump: they read.
grant select on all tables in schema public to rollcall_query, rollcall_backup;
grant select on all sequences in schema public to rollcall_backup;
