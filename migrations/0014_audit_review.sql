-- Review of what policy allowed by itself: which of it people look at, and what came of it.

-- Settings of the audit log as immutable versions; the highest of its kind is the active one.
CREATE TABLE audit_settings (
    tenant_id    text NOT NULL REFERENCES tenants (id),
    kind         text NOT NULL CHECK (kind IN ('sampling', 'retention')),
    version      bigint NOT NULL CHECK (version > 0),
    value        jsonb NOT NULL,
    -- The token that put it, and how the audit log names it.
    created_by   text NOT NULL,
    author       text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, version)
);

-- Execs that were drawn when policy allowed them, in the same transaction.
CREATE TABLE audit_samples (
    tenant_id    text NOT NULL,
    exec_id      text NOT NULL,
    -- The sampling rule that drew it.
    rule         text NOT NULL,
    sampled_at   timestamptz NOT NULL DEFAULT now(),
    -- When it was first reviewed.
    reviewed_at  timestamptz,
    PRIMARY KEY (tenant_id, exec_id),
    FOREIGN KEY (tenant_id, exec_id) REFERENCES execs (tenant_id, id)
);
CREATE INDEX audit_samples_open ON audit_samples (tenant_id, exec_id) WHERE reviewed_at IS NULL;

-- The exec that the reviewed event is about.
ALTER TABLE audit_reviews ADD COLUMN exec_id text;
CREATE INDEX audit_reviews_by_exec ON audit_reviews (tenant_id, exec_id, id)
    WHERE exec_id IS NOT NULL;

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['audit_settings', 'audit_samples'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format(
            'CREATE POLICY tenant_scope ON %I
                 USING (tenant_id = current_setting(''app.tenant_id''))
                 WITH CHECK (tenant_id = current_setting(''app.tenant_id''))',
            tenant_table);
    END LOOP;
END $$;

GRANT SELECT, INSERT ON audit_settings, audit_samples TO bulkhead_app;
GRANT UPDATE (reviewed_at) ON audit_samples TO bulkhead_app;
