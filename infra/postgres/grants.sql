-- All privileges of Rollcall's roles. Earlier grants are revoked in the same transaction. setup.sh runs this after the
-- migrations: when a migration adds a table, add its grants here.
revoke all on database :"DBNAME" from public, rollcall_process, rollcall_query, rollcall_backup;
revoke all on schema public from public, rollcall_process, rollcall_query, rollcall_backup;
revoke all on all tables in schema public from public, rollcall_process, rollcall_query, rollcall_backup;
revoke all on all sequences in schema public from public, rollcall_process, rollcall_query, rollcall_backup;

grant connect on database :"DBNAME" to rollcall_process, rollcall_query, rollcall_backup;
grant usage on schema public to rollcall_process, rollcall_query, rollcall_backup;

-- process-data: the privileges that its statements need.
grant select, insert, update, delete on users, erased, rejected, segments, hints to rollcall_process;
grant select, insert, update on runs to rollcall_process;
grant select, update on outputs to rollcall_process;
grant usage on sequence ticks, runs_id_seq to rollcall_process;
-- For a rollback to version 1 of process-data, which checks for pending migrations and creates temporary tables.
grant select on migrations to rollcall_process;
grant temporary on database :"DBNAME" to rollcall_process;

-- query-data, dashboards and pg_dump: read access.
grant select on all tables in schema public to rollcall_query, rollcall_backup;
grant select on all sequences in schema public to rollcall_backup;
