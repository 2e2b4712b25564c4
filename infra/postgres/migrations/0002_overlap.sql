-- Detect overlapping runs, and export `rejected` to the result bucket.
alter table runs add column prefix text; -- of the keys in the run's scope; null: only users named by an event

create index runs_finished_at on runs (finished_at);

insert into outputs (object) values ('rejected.csv');
