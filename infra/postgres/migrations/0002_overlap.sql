-- Runs that overlap know of each other, and rejected is mirrored in the result bucket.
alter table runs add column prefix text; -- null: the users that an event named

create index runs_finished_at on runs (finished_at);

insert into outputs (object) values ('rejected.csv');
