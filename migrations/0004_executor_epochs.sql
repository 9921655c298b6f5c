-- Every enrolment of an executor starts an epoch; what an earlier one says is refused.
ALTER TABLE executors ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
