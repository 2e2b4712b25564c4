-- The number of CSVs that S3 failed to return in the segment's last complete scan. Unless all are 0, no full run ends
-- `done`.
alter table segments add column unreadable int not null default 0;
