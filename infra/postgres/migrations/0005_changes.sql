-- query-data serves the changes to users since a cursor, in commit order.

-- The number of the row's last change, from the column `changed` of outputs; 0 if that was before this migration.
alter table users add column changed bigint not null default 0;

create index users_changed on users (changed, user_id);
