-- What part 3 adds to the control plane: token use, rates, quotas, what executors say of themselves.

-- To the minute or so: written by the way, never on the path of a request.
ALTER TABLE tokens ADD COLUMN last_used_at timestamptz;

-- What an executor says of itself when it enrols.
ALTER TABLE executors
    ADD COLUMN isolation_tier text,
    ADD COLUMN capacity       integer;

-- Whether the session was told that its executor is silent.
ALTER TABLE sessions ADD COLUMN executor_silent boolean NOT NULL DEFAULT false;

-- `readyz` tells whether this file has been applied.
GRANT SELECT ON _sqlx_migrations TO bulkhead_app;

-- Requests in the current minute, summed over all control planes. The subject is the id of a token
-- or of a tenant; nothing else of either stands here, so that one statement serves all of them.
CREATE TABLE request_rates (
    subject   text   NOT NULL,
    minute    bigint NOT NULL,
    requests  bigint NOT NULL,
    PRIMARY KEY (subject, minute)
);
CREATE INDEX request_rates_by_minute ON request_rates (minute);
GRANT SELECT, INSERT, UPDATE, DELETE ON request_rates TO bulkhead_app;

-- What a tenant may use, where it differs from the defaults; set by the platform.
CREATE TABLE quotas (
    tenant_id text PRIMARY KEY REFERENCES tenants (id),
    limits    jsonb NOT NULL
);

-- What a tenant used on a day (UTC).
CREATE TABLE usage_days (
    tenant_id     text NOT NULL REFERENCES tenants (id),
    day           date NOT NULL,
    exec_ms       bigint NOT NULL DEFAULT 0,
    output_bytes  bigint NOT NULL DEFAULT 0,
    model_tokens  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, day)
);

ALTER TABLE quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE quotas FORCE ROW LEVEL SECURITY;
-- A tenant reads its own; the platform ('system') writes.
CREATE POLICY tenant_scope ON quotas
    USING (current_setting('app.tenant_id') IN (tenant_id, 'system'))
    WITH CHECK (current_setting('app.tenant_id') = 'system');
ALTER TABLE usage_days ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_days FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON usage_days
    USING (tenant_id = current_setting('app.tenant_id'))
    WITH CHECK (tenant_id = current_setting('app.tenant_id'));
GRANT SELECT, INSERT, UPDATE ON quotas, usage_days TO bulkhead_app;

-- Counting what is open under a quota.
CREATE INDEX sessions_open ON sessions (tenant_id) WHERE state <> 'closed';
-- Keys are kept for a day.
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (tenant_id, created_at);

-- Lists are in the order of ids, which is that of their making. Each filter has its index.
DROP INDEX execs_by_session;
CREATE INDEX execs_by_session ON execs (tenant_id, session_id, id DESC);
CREATE INDEX execs_by_state ON execs (tenant_id, session_id, state, id DESC);
DROP INDEX approvals_by_state;
CREATE INDEX approvals_by_state ON approvals (tenant_id, state, id DESC);
DROP INDEX sessions_by_time;
