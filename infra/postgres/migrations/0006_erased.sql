-- Tombstones of erased users, exported to the result bucket.
create table erased (
    user_id text collate "C" primary key check (user_id ~ '^[0-9]{1,18}$'),
    erased_at timestamptz not null default now(),
    csv_modified timestamptz, -- latest Last-Modified of the CSV known at the erasure; null if no CSV was known
    changed bigint not null -- number of the change, as in users
);

create index erased_changed on erased (changed, user_id);

insert into outputs (object) values ('erased.csv');

-- Stored summaries no longer contain rejections, which quote from files.
update runs set summary = summary - 'rejections' where summary ? 'rejections';
