-- What part 2 adds: epochs of executors, and execs with a terminal, open input or a tool's call.

-- Every enrolment of an executor starts an epoch; what an earlier one says is refused.
ALTER TABLE executors ADD COLUMN epoch bigint NOT NULL DEFAULT 0;

-- Lowest generation that the session's sandbox may have: it was moved away from a lost executor.
ALTER TABLE sessions ADD COLUMN min_generation integer NOT NULL DEFAULT 1;

ALTER TABLE execs
    -- 'shell': a script for bash. 'tool': a call such as read_file, run without a shell.
    ADD COLUMN kind       text    NOT NULL DEFAULT 'shell' CHECK (kind IN ('shell', 'tool')),
    -- Nobody waits for it, and no turn either.
    ADD COLUMN background boolean NOT NULL DEFAULT false,
    ADD COLUMN stdin_open boolean NOT NULL DEFAULT false,
    -- {"rows", "cols"}, if it has one.
    ADD COLUMN terminal   jsonb,
    -- Processes that were ended with it.
    ADD COLUMN survivors  integer NOT NULL DEFAULT 0;
