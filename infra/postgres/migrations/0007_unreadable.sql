-- CSVs that S3 failed to return to the segment's last complete scan. While there are any, no full run ends `done`.
alter table segments add column unreadable int not null default 0;
