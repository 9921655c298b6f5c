-- The audit log: one hash chain per tenant and one named 'system'. See crates/audit.

CREATE TABLE audit_heads (
    chain        text PRIMARY KEY,
    seq          bigint NOT NULL,
    hash         bytea NOT NULL
);

CREATE TABLE audit_events (
    chain        text NOT NULL,
    seq          bigint NOT NULL,
    time_us      bigint NOT NULL,
    actor        text NOT NULL,
    token_id     text,
    address      text,
    action       text NOT NULL,
    object       text NOT NULL,
    session_id   text,
    outcome      text NOT NULL,
    -- JSON as text: it is hashed as it stands.
    detail       text NOT NULL,
    hash         bytea NOT NULL,
    PRIMARY KEY (chain, seq)
);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit events are never changed or deleted';
END $$;

CREATE TRIGGER audit_events_are_immutable
    BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();

CREATE TRIGGER audit_events_are_not_truncated
    BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
