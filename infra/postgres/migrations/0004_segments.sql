-- Runs scan the bucket segment by segment, and events leave hints.

-- A logical clock for runs, scans and hints: whoever took a later tick looked at the bucket later.
create sequence ticks;

-- The bucket's keys, cut into ranges: those greater than `start`, up to and including the next segment's start.
create table segments (
    id int generated always as identity primary key, -- names the segment's advisory lock
    start text collate "C" not null unique,
    keys bigint not null default 0, -- counted by the last complete scan
    scanned bigint not null default 0, -- tick at which that scan began to list
    scanned_at timestamptz, -- when that was
    turn bigint not null default 0 -- place in line, lowest first
);

create index segments_by_turn on segments (turn, start);

insert into segments (start, keys) select '', exists (select from users)::int; -- the bucket had keys

-- Objects that an event or a request named and that no scan has looked at since.
create table hints (
    object text collate "C" primary key, -- a user's is the CSV, whichever of the user's objects was named
    tick bigint not null
);

-- `rules`: version of the rules that rejected the content with the ETag `checked_etag`. Older versions of process-data
-- write neither of them: what they reject has no `checked_etag`, or one that differs from `etag`, and is checked again.
-- `retry_after`: milliseconds since 1970-01-01 UTC from which the same content may be accepted.
alter table rejected
    add column rules int not null default 1, add column checked_etag text, add column retry_after bigint;

delete from rejected where code = 'older_version'; -- no longer a reason: the bucket is the truth

update rejected
set rules = 2,
    checked_etag = etag,
    retry_after = case code when 'in_the_future' then
        coalesce(substring(message from '''\+?([0-9]{1,18})''')::bigint, 0)
    end;

update outputs set changed = changed + 1 where object = 'rejected.csv';

-- An export that took long is not repeated at once.
alter table outputs add column written_at timestamptz, add column seconds real not null default 0;

-- A run scans the whole bucket or the users that it was given; `prefix` is what older versions write.
alter table runs
    add column scope text not null default 'bucket' check (scope in ('bucket', 'users')),
    add column continued_at timestamptz, -- when its continuation was queued
    drop constraint runs_trigger_check,
    add constraint runs_trigger_check check (trigger in ('cron', 'http', 'event', 'continuation'));

update runs set scope = 'users' where prefix is distinct from '';

create index runs_started_at on runs (started_at);
create index runs_continued_at on runs (continued_at) where continued_at is not null;
