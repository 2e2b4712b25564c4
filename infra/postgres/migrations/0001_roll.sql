-- The initial schema. `users` has one row per user. Since 0006, erasures delete rows.
create table users (
    id bigint generated always as identity primary key,
    user_id text collate "C" not null unique check (user_id ~ '^[0-9]{1,18}$'),
    first_name text not null,
    last_name text not null,
    birthts bigint not null, -- milliseconds since 1970-01-01 UTC
    birthdate date not null
        generated always as (date '1970-01-01' + floor(birthts / 86400000.0)::int) stored,
    img_path text, -- bucket/key of the photo
    csv_etag text not null, -- of the CSV that the row was read from
    csv_modified timestamptz not null,
    updated_at timestamptz not null default now()
);

create index users_birthdate on users (birthdate, user_id);

-- Rejected objects, until they are corrected or removed.
create table rejected (
    object text collate "C" primary key,
    etag text not null,
    line int, -- of the CSV; null if the reason is the name or the size of the object
    code text not null,
    message text not null,
    first_seen timestamptz not null default now(),
    -- despite its name: when the content, the reason or (since 0004) the rules last changed
    last_seen timestamptz not null default now()
);

create table runs (
    id bigint generated always as identity primary key,
    trigger text not null check (trigger in ('cron', 'http', 'event')),
    call_id text,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    status text not null default 'running' check (status in ('running', 'done', 'partial', 'failed')),
    summary jsonb, -- counts and seconds per stage
    error text
);

-- Files in the result bucket. A transaction that changes the data increments `changed`. A successful export
-- sets `written` to the `changed` of its snapshot. While the two differ, an export is needed.
create table outputs (
    object text primary key,
    changed bigint not null default 1,
    written bigint not null default 0,
    rows bigint not null default 0,
    etag text
);

insert into outputs (object) values ('output.csv');
