-- Add the output rejected.csv, and the column by which version 1 detects overlapping runs.
alter table runs add column prefix text; -- of the keys in the run's scope; null in version 2: see `scope` in 0004

create index runs_finished_at on runs (finished_at);

insert into outputs (object) values ('rejected.csv');
