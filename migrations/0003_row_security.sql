-- The second wall between tenants, and the rights of the service role.

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY[
        'tokens', 'executors', 'sessions', 'turns', 'turn_steps', 'conversation_items', 'execs',
        'approvals', 'output_chunks', 'session_events', 'idempotency_keys'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format(
            'CREATE POLICY tenant_scope ON %I
                 USING (tenant_id = current_setting(''app.tenant_id''))
                 WITH CHECK (tenant_id = current_setting(''app.tenant_id''))',
            tenant_table);
    END LOOP;
END $$;

-- A tenant sees its own row; the platform ('system') sees all of them.
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON tenants
    USING (current_setting('app.tenant_id') IN (id, 'system'))
    WITH CHECK (current_setting('app.tenant_id') = 'system');

ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON audit_events
    USING (chain = current_setting('app.tenant_id'))
    WITH CHECK (chain = current_setting('app.tenant_id'));
ALTER TABLE audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON audit_heads
    USING (chain = current_setting('app.tenant_id'))
    WITH CHECK (chain = current_setting('app.tenant_id'));

GRANT USAGE ON SCHEMA public TO bulkhead_app;
GRANT SELECT, INSERT ON tenants, turn_steps, conversation_items, output_chunks, session_events,
    idempotency_keys, revocations, audit_events TO bulkhead_app;
GRANT SELECT, INSERT, UPDATE ON tokens, executors, sessions, turns, execs, approvals, audit_heads
    TO bulkhead_app;
GRANT SELECT, INSERT, DELETE ON outbox TO bulkhead_app;
GRANT DELETE ON idempotency_keys TO bulkhead_app;
