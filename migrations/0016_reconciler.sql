-- What the reconciler looks for: permitted execs whose end is overdue, and ends without their event.

-- When what applies to the exec was decided.
ALTER TABLE execs ADD COLUMN decided_at timestamptz;
CREATE INDEX execs_by_end ON execs (tenant_id, finished_at) WHERE finished_at IS NOT NULL;
