-- What a later version of the policy says against an exec that was allowed, and may have been handed
-- to its executor. Its decision stays: whether it started is for that executor to tell.
ALTER TABLE execs ADD COLUMN recalled jsonb;
