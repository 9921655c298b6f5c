-- Calls to tenants' own servers when something happens that people wait for.

CREATE TABLE webhooks (
    tenant_id    text NOT NULL REFERENCES tenants (id),
    id           text NOT NULL,
    url          text NOT NULL,
    events       text[] NOT NULL,
    -- What calls are signed with, wrapped with the master key.
    secret       bytea NOT NULL,
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);

-- Calls that were not taken yet: ids only. A row is gone once its call was taken or given up.
CREATE TABLE webhook_queue (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    text NOT NULL,
    webhook_id   text NOT NULL,
    event        text NOT NULL,
    subject      text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    attempts     integer NOT NULL DEFAULT 0,
    next_at      timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_queue_due ON webhook_queue (next_at);

ALTER TABLE webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhooks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON webhooks
    USING (tenant_id = current_setting('app.tenant_id'))
    WITH CHECK (tenant_id = current_setting('app.tenant_id'));
ALTER TABLE webhook_queue ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_queue FORCE ROW LEVEL SECURITY;
-- The platform ('system') looks for what is due, over all tenants.
CREATE POLICY tenant_scope ON webhook_queue
    USING (current_setting('app.tenant_id') IN (tenant_id, 'system'))
    WITH CHECK (current_setting('app.tenant_id') IN (tenant_id, 'system'));
GRANT SELECT, INSERT, DELETE ON webhooks TO bulkhead_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_queue TO bulkhead_app;
