-- Work on files that is on record as requested and has no outcome there yet. What is still here long
-- after its time is closed as unknown.
CREATE TABLE file_calls (
    tenant_id   text NOT NULL,
    id          bigint GENERATED ALWAYS AS IDENTITY,
    session_id  text NOT NULL,
    token_id    text NOT NULL,
    action      text NOT NULL,
    path        text NOT NULL,
    begun_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions (tenant_id, id)
);
CREATE INDEX file_calls_by_begin ON file_calls (tenant_id, begun_at);
ALTER TABLE file_calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_calls FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON file_calls
    USING (tenant_id = current_setting('app.tenant_id'))
    WITH CHECK (tenant_id = current_setting('app.tenant_id'));
GRANT SELECT, INSERT, UPDATE, DELETE ON file_calls TO bulkhead_app;
