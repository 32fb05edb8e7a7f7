-- Bytes of the skip index beside a file; none has 0.
alter table lake_files add column index_bytes bigint not null default 0;
