-- Runs scan the bucket segment by segment. Hints come from events, from requests that name users, and from restores.

-- A logical clock for runs, scans and hints. A scan takes its tick just before it lists the bucket, so the listing
-- covers all hints with lesser ticks.
create sequence ticks;

-- Ranges of the bucket's keys: greater than `start`, up to and including the `start` of the next segment.
create table segments (
    id int generated always as identity primary key, -- identifies the segment's advisory lock
    start text collate "C" not null unique,
    keys bigint not null default 0, -- counted by the last complete scan
    scanned bigint not null default 0, -- tick at the start of that scan's listing
    scanned_at timestamptz, -- time of that tick
    turn bigint not null default 0 -- position in the queue, lowest first
);

create index segments_by_turn on segments (turn, start);

-- If there are users, the bucket had keys. Count one, so that runs notice if the bucket is empty now.
insert into segments (start, keys) select '', exists (select from users)::int;

-- Objects to scan: named by an event or a request, or of users who were erased again after a restore.
create table hints (
    object text collate "C" primary key, -- the user's CSV, even if the event named the photo
    tick bigint not null
);

-- `rules`: version of the validation rules that rejected the content with the ETag `checked_etag`. Version 1 of
-- process-data writes none of these columns. A file without `checked_etag`, or listed with another ETag, is checked
-- again.
-- `retry_after`: when the same content may become valid, in milliseconds since 1970-01-01 UTC.
alter table rejected
    add column rules int not null default 1, add column checked_etag text, add column retry_after bigint;

delete from rejected where code = 'older_version'; -- no longer a reason: the bucket is the source of truth

-- All other rejections of version 1 are kept: version 2 rejects the same content for these reasons, too.
update rejected
set rules = 2,
    checked_etag = etag,
    retry_after = case code when 'in_the_future' then
        coalesce(substring(message from '''\+?([0-9]{1,18})''')::bigint, 0)
    end;

update outputs set changed = changed + 1 where object = 'rejected.csv';

-- A slow export is not repeated immediately. `seconds`: duration of the last export.
alter table outputs add column written_at timestamptz, add column seconds real not null default 0;

-- A run scans the whole bucket or only the users in the request. Version 1 of process-data writes `prefix` instead.
alter table runs
    add column scope text not null default 'bucket' check (scope in ('bucket', 'users')),
    add column continued_at timestamptz, -- when its continuation was queued
    drop constraint runs_trigger_check,
    add constraint runs_trigger_check check (trigger in ('cron', 'http', 'event', 'continuation'));

update runs set scope = 'users' where prefix is distinct from '';

create index runs_started_at on runs (started_at);
create index runs_continued_at on runs (continued_at) where continued_at is not null;
