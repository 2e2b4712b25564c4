-- Indexes for query-data's filters and orders, besides users_birthdate and the unique user_id.
create index users_first_name on users (lower(first_name) collate "C");
create index users_last_name on users (lower(last_name) collate "C", user_id);
create index users_with_photo on users (user_id) where img_path is not null;
create index users_without_photo on users (user_id) where img_path is null;
