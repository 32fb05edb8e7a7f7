-- The change of a request with a key that is under way in several transactions, or was cut off there; its answer is none yet.
alter table kept_answers add column change_id bigint;
