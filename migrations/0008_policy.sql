-- Policies as immutable versions, votes on approvals, and answers that hold for a session.

-- The active version of a tenant is its highest one; without any, the shipped default applies.
CREATE TABLE policies (
    tenant_id    text NOT NULL REFERENCES tenants (id),
    version      bigint NOT NULL CHECK (version > 0),
    text         text NOT NULL,
    -- The token that put it, and how the audit log names it.
    created_by   text NOT NULL,
    author       text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, version)
);

-- What a session is for, such as 'production'. Policies may ask.
ALTER TABLE sessions ADD COLUMN environment text NOT NULL DEFAULT '';

ALTER TABLE approvals
    -- 'session': the answer also holds for the same command later in the session.
    ADD COLUMN scope       text NOT NULL DEFAULT 'once' CHECK (scope IN ('once', 'session')),
    -- What "the same command" is. Absent where an answer cannot hold for more than the one exec.
    ADD COLUMN session_key bytea;
CREATE INDEX approvals_for_sessions ON approvals (tenant_id, session_id, session_key)
    WHERE scope = 'session' AND state = 'approved';

-- Who said yes. A rule may ask for more than one.
CREATE TABLE approval_votes (
    tenant_id    text NOT NULL,
    approval_id  text NOT NULL,
    token_id     text NOT NULL,
    actor        text NOT NULL,
    role         text NOT NULL,
    scope        text NOT NULL CHECK (scope IN ('once', 'session')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, approval_id, token_id),
    FOREIGN KEY (tenant_id, approval_id) REFERENCES approvals (tenant_id, id)
);

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['policies', 'approval_votes'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format(
            'CREATE POLICY tenant_scope ON %I
                 USING (tenant_id = current_setting(''app.tenant_id''))
                 WITH CHECK (tenant_id = current_setting(''app.tenant_id''))',
            tenant_table);
    END LOOP;
END $$;

GRANT SELECT, INSERT ON policies, approval_votes TO bulkhead_app;
