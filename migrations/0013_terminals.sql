-- What a recording of a terminal needs: when output came, and when the terminal got another size.

-- When a chunk arrived; of earlier ones it is not known.
ALTER TABLE output_chunks ADD COLUMN arrived_at timestamptz;
ALTER TABLE output_chunks ALTER COLUMN arrived_at SET DEFAULT clock_timestamp();

-- Sizes that a terminal got while its exec ran; the first one stands in the exec.
CREATE TABLE terminal_sizes (
    tenant_id    text NOT NULL,
    exec_id      text NOT NULL,
    number       bigint GENERATED ALWAYS AS IDENTITY,
    rows         integer NOT NULL,
    cols         integer NOT NULL,
    set_at       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, exec_id, number),
    FOREIGN KEY (tenant_id, exec_id) REFERENCES execs (tenant_id, id)
);
ALTER TABLE terminal_sizes ENABLE ROW LEVEL SECURITY;
ALTER TABLE terminal_sizes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON terminal_sizes
    USING (tenant_id = current_setting('app.tenant_id'))
    WITH CHECK (tenant_id = current_setting('app.tenant_id'));
GRANT SELECT, INSERT ON terminal_sizes TO bulkhead_app;
