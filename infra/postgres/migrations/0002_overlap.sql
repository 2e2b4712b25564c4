-- Version 1 detected overlapping runs by `prefix`. Export `rejected` to the result bucket.
alter table runs add column prefix text; -- of the keys in the run's scope; since 0004 always null: see `scope`

create index runs_finished_at on runs (finished_at);

insert into outputs (object) values ('rejected.csv');
