-- query-data serves the changes since a cursor, in the order in which they were committed.

-- `changed` of outputs when the row was last changed. Rows that are older than this column have 0.
alter table users add column changed bigint not null default 0;

create index users_changed on users (changed, user_id);
