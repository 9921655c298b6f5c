-- What is missing of an exec's output for good: where it begins, and why.
ALTER TABLE execs ADD COLUMN stdout_lost jsonb, ADD COLUMN stderr_lost jsonb;
