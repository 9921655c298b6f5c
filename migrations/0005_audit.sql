-- Audit events of version 2 (docs/audit.md): what may be erased is apart from what stays. Their
-- look-up, signed checkpoints, and reviews. Events of version 1 existed before any release only.

DROP TABLE audit_events;
TRUNCATE audit_heads;

CREATE TABLE audit_events (
    chain              text NOT NULL,
    seq                bigint NOT NULL,
    time_us            bigint NOT NULL,
    role               text NOT NULL,
    token_id           text,
    action             text NOT NULL,
    object             text NOT NULL,
    session_id         text,
    exec_id            text,
    outcome            text NOT NULL,
    decision           text,
    rules              text[],
    policy_version     bigint,
    approver           text,
    sandbox_id         text,
    sandbox_generation bigint,
    image_digest       text,
    detail_sha256      bytea NOT NULL,
    -- From here to data: the detail. All of it goes at once.
    salt               bytea,
    actor              text,
    address            text,
    reasons            text[],
    stdout_sha256      bytea,
    stderr_sha256      bytea,
    -- JSON as text: it is hashed as it stands.
    data               text,
    hash               bytea NOT NULL,
    PRIMARY KEY (chain, seq),
    CHECK ((decision IS NULL) = (rules IS NULL)),
    CHECK ((sandbox_id IS NULL) = (sandbox_generation IS NULL)),
    CHECK (num_nulls(salt, actor, reasons, data) IN (0, 4)),
    CHECK (salt IS NOT NULL
           OR num_nonnulls(address, stdout_sha256, stderr_sha256) = 0)
);

-- Row-level security lets an index be used for equality and order only, so these are plain ones.
CREATE INDEX audit_events_by_time ON audit_events (chain, time_us, seq);
CREATE INDEX audit_events_by_session ON audit_events (chain, session_id, seq)
    WHERE session_id IS NOT NULL;
CREATE INDEX audit_events_by_exec ON audit_events (chain, exec_id, seq) WHERE exec_id IS NOT NULL;
CREATE INDEX audit_events_by_object ON audit_events (chain, object, seq);
CREATE INDEX audit_events_by_action ON audit_events (chain, action, outcome, seq);
CREATE INDEX audit_events_by_actor ON audit_events (chain, actor, seq) WHERE actor IS NOT NULL;
CREATE INDEX audit_events_by_decision ON audit_events (chain, decision, seq)
    WHERE decision IS NOT NULL;

-- Words, programs and rules, each with the events that have them: full text by equality.
CREATE TABLE audit_terms (
    chain  text NOT NULL,
    term   text NOT NULL,
    seq    bigint NOT NULL,
    PRIMARY KEY (chain, term, seq)
);
CREATE INDEX audit_terms_by_event ON audit_terms (chain, seq);

CREATE TABLE audit_checkpoints (
    number   bigint PRIMARY KEY,
    time_us  bigint NOT NULL,
    note     text NOT NULL
);

-- A chain has a proof in those checkpoints before which it had grown, and in those that it asked
-- for. path is the audit path from below, 32 bytes a hash.
CREATE TABLE audit_checkpoint_proofs (
    chain       text NOT NULL,
    number      bigint NOT NULL REFERENCES audit_checkpoints,
    size        bigint NOT NULL,
    head        bytea NOT NULL,
    leaf_index  bigint NOT NULL,
    path        bytea NOT NULL,
    PRIMARY KEY (chain, number)
);
CREATE INDEX audit_checkpoint_proofs_by_size ON audit_checkpoint_proofs (chain, size, number);
CREATE INDEX audit_checkpoint_proofs_by_number ON audit_checkpoint_proofs (number);

CREATE TABLE audit_reviews (
    tenant_id    text NOT NULL REFERENCES tenants,
    id           text NOT NULL,
    seq          bigint NOT NULL,
    verdict      text NOT NULL CHECK (verdict IN ('ok', 'violation', 'needs_rule')),
    comment      text NOT NULL,
    reviewed_by  text NOT NULL,
    token_id     text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_reviews_by_event ON audit_reviews (tenant_id, seq);

-- Changes: none, by nobody, except that a detail may go as a whole while all that is hashed stays.
CREATE FUNCTION allow_audit_erasure_only() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    erased audit_events := OLD;
BEGIN
    erased.salt := NULL;
    erased.actor := NULL;
    erased.address := NULL;
    erased.reasons := NULL;
    erased.stdout_sha256 := NULL;
    erased.stderr_sha256 := NULL;
    erased.data := NULL;
    IF NEW IS DISTINCT FROM erased THEN
        RAISE EXCEPTION 'audit events are never changed; only their details can be erased';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_events_are_only_erased
    BEFORE UPDATE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION allow_audit_erasure_only();
CREATE TRIGGER audit_events_are_not_deleted
    BEFORE DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_events_are_not_truncated
    BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

CREATE TRIGGER audit_checkpoints_are_immutable
    BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_checkpoints_are_not_truncated
    BEFORE TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_checkpoint_proofs_are_immutable
    BEFORE UPDATE OR DELETE ON audit_checkpoint_proofs
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_checkpoint_proofs_are_not_truncated
    BEFORE TRUNCATE ON audit_checkpoint_proofs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- Erases the details of a chain's events from one number to another. Runs as its owner, who alone
-- may write there; row-level security holds for the owner too, so the chain is the caller's own.
CREATE FUNCTION erase_audit_details(first bigint, last bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    erased bigint;
    own text := current_setting('app.tenant_id');
BEGIN
    DELETE FROM public.audit_terms WHERE chain = own AND seq BETWEEN first AND last;
    UPDATE public.audit_events
        SET salt = NULL, actor = NULL, address = NULL, reasons = NULL, stdout_sha256 = NULL,
            stderr_sha256 = NULL, data = NULL
        WHERE chain = own AND seq BETWEEN first AND last AND salt IS NOT NULL;
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END $$;
REVOKE ALL ON FUNCTION erase_audit_details FROM PUBLIC;

DO $$
DECLARE
    chain_table text;
BEGIN
    FOREACH chain_table IN ARRAY ARRAY['audit_events', 'audit_terms'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', chain_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', chain_table);
        EXECUTE format(
            'CREATE POLICY tenant_scope ON %I
                 USING (chain = current_setting(''app.tenant_id''))
                 WITH CHECK (chain = current_setting(''app.tenant_id''))',
            chain_table);
    END LOOP;
END $$;

ALTER TABLE audit_reviews ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_reviews FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON audit_reviews
    USING (tenant_id = current_setting('app.tenant_id'))
    WITH CHECK (tenant_id = current_setting('app.tenant_id'));

-- Whoever makes checkpoints sees how long each chain is and its last hash, and nothing else of it.
CREATE POLICY platform_reads ON audit_heads FOR SELECT
    USING (current_setting('app.tenant_id') = 'system');

-- A checkpoint says nothing of any tenant except that it is one of so many.
ALTER TABLE audit_checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON audit_checkpoints FOR SELECT USING (true);
CREATE POLICY platform_appends ON audit_checkpoints FOR INSERT
    WITH CHECK (current_setting('app.tenant_id') = 'system');

ALTER TABLE audit_checkpoint_proofs ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoint_proofs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_scope ON audit_checkpoint_proofs FOR SELECT
    USING (current_setting('app.tenant_id') IN (chain, 'system'));
CREATE POLICY platform_appends ON audit_checkpoint_proofs FOR INSERT
    WITH CHECK (current_setting('app.tenant_id') = 'system');

GRANT SELECT, INSERT ON audit_events, audit_terms, audit_checkpoints, audit_checkpoint_proofs,
    audit_reviews TO bulkhead_app;
GRANT EXECUTE ON FUNCTION erase_audit_details TO bulkhead_app;
