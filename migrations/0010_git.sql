-- Why an exec's git reads are asked about although policy would allow them: its executor found a
-- repository that is not fit for git's disarmed form, and started nothing.
ALTER TABLE execs ADD COLUMN git_refused text;
