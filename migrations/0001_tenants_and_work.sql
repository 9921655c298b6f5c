-- Tenants, tokens, executors, and the work of sessions.
--
-- Runs as the owner role. The service connects as `bulkhead_app`, which is neither superuser nor
-- owner and cannot bypass row-level security. Every tenant table forces row-level security on the
-- setting `app.tenant_id`, which each transaction sets for itself; without it a query fails.
-- Ids are prefixed texts; times are timestamptz; sizes are bytes; durations carry their unit.

CREATE TABLE tenants (
    id           text PRIMARY KEY,
    name         text NOT NULL UNIQUE,
    -- Numbers tenants from 1, so that each has its own user id in sandboxes.
    number       integer GENERATED ALWAYS AS IDENTITY,
    -- AES-256 key of the tenant's Temporal payloads, wrapped with the master key.
    payload_key  bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- `tenant_id` is 'system' for platform tokens.
CREATE TABLE tokens (
    tenant_id    text NOT NULL,
    id           text NOT NULL,
    -- SHA-256 of the JWT's jti; the token itself is shown once and stored nowhere.
    jti_hash     bytea NOT NULL UNIQUE,
    name         text NOT NULL,
    role         text NOT NULL,
    created_by   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    PRIMARY KEY (tenant_id, id)
);

-- What every control plane checks each request against. Holds nothing of any tenant.
CREATE TABLE revocations (
    jti_hash     bytea PRIMARY KEY,
    expires_at   timestamptz NOT NULL
);

CREATE TABLE executors (
    tenant_id    text NOT NULL REFERENCES tenants (id),
    id           text NOT NULL,
    version      text NOT NULL,
    host         text NOT NULL,
    image_digest text NOT NULL,
    enrolled_at  timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE sessions (
    tenant_id          text NOT NULL REFERENCES tenants (id),
    id                 text NOT NULL,
    name               text NOT NULL,
    state              text NOT NULL,
    model              text,
    approval_mode      text NOT NULL,
    limits             jsonb NOT NULL,
    -- Set when the first command is authorized, and then kept.
    image_digest       text,
    -- The executor that holds its sandbox; set together with the image.
    executor_id        text,
    sandbox_id         text,
    sandbox_generation integer,
    created_by         text NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    closed_at          timestamptz,
    next_event_seq     bigint NOT NULL DEFAULT 1,
    next_item          bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX sessions_by_time ON sessions (tenant_id, created_at DESC, id DESC);

CREATE TABLE turns (
    tenant_id    text NOT NULL,
    id           text NOT NULL,
    session_id   text NOT NULL,
    state        text NOT NULL,
    input        text NOT NULL,
    answer       text,
    error        text,
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions (tenant_id, id)
);
CREATE INDEX turns_open ON turns (tenant_id, session_id) WHERE finished_at IS NULL;

-- One model call of a turn that was completed: a repeated attempt finds it here.
CREATE TABLE turn_steps (
    tenant_id    text NOT NULL,
    turn_id      text NOT NULL,
    step         integer NOT NULL,
    execs        text[] NOT NULL,
    done         boolean NOT NULL,
    PRIMARY KEY (tenant_id, turn_id, step),
    FOREIGN KEY (tenant_id, turn_id) REFERENCES turns (tenant_id, id)
);

-- The conversation as the model sees it, item by item.
CREATE TABLE conversation_items (
    tenant_id    text NOT NULL,
    session_id   text NOT NULL,
    position     bigint NOT NULL,
    item         jsonb NOT NULL,
    PRIMARY KEY (tenant_id, session_id, position),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions (tenant_id, id)
);

CREATE TABLE execs (
    tenant_id          text NOT NULL,
    id                 text NOT NULL,
    session_id         text NOT NULL,
    -- The turn and the model's call id, when the model asked for it.
    turn_id            text,
    call_id            text,
    state              text NOT NULL,
    command            text NOT NULL,
    cwd                text NOT NULL,
    env                jsonb NOT NULL,
    stdin              bytea,
    timeout_ms         bigint NOT NULL,
    decision           jsonb,
    approval_id        text,
    cancel_requested   boolean NOT NULL DEFAULT false,
    -- Why it has not started yet, for people.
    waiting_reason     text,
    -- Why it never started, as {code, message}.
    error              jsonb,
    exit_code          integer,
    signal             integer,
    oom_killed         boolean NOT NULL DEFAULT false,
    sandbox_id         text,
    sandbox_generation integer,
    stdout             jsonb,
    stderr             jsonb,
    created_by         text NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    started_at         timestamptz,
    finished_at        timestamptz,
    duration_ms        bigint,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions (tenant_id, id)
);
-- What is not over yet, for limits and for closing.
CREATE INDEX execs_open ON execs (tenant_id, session_id) WHERE finished_at IS NULL;
CREATE INDEX execs_by_session ON execs (tenant_id, session_id, created_at DESC, id DESC);

CREATE TABLE approvals (
    tenant_id    text NOT NULL,
    id           text NOT NULL,
    exec_id      text NOT NULL,
    session_id   text NOT NULL,
    state        text NOT NULL,
    -- What is approved is exactly this: the digest goes into the grant.
    order_sha256 text NOT NULL,
    reasons      jsonb NOT NULL,
    requested_by text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    decided_by   text,
    decided_at   timestamptz,
    reason       text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, exec_id) REFERENCES execs (tenant_id, id)
);
CREATE INDEX approvals_by_state ON approvals (tenant_id, state, created_at DESC, id DESC);

CREATE TABLE output_chunks (
    tenant_id    text NOT NULL,
    exec_id      text NOT NULL,
    stream       text NOT NULL,
    start_offset bigint NOT NULL,
    bytes        bytea NOT NULL,
    PRIMARY KEY (tenant_id, exec_id, stream, start_offset),
    FOREIGN KEY (tenant_id, exec_id) REFERENCES execs (tenant_id, id)
);

CREATE TABLE session_events (
    tenant_id    text NOT NULL,
    session_id   text NOT NULL,
    seq          bigint NOT NULL,
    type         text NOT NULL,
    data         jsonb NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, session_id, seq),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions (tenant_id, id)
);

CREATE TABLE idempotency_keys (
    tenant_id    text NOT NULL,
    token_id     text NOT NULL,
    key          text NOT NULL,
    fingerprint  bytea NOT NULL,
    subject      text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, token_id, key)
);

-- Messages for workflows that were promised but not handed to Temporal yet: ids only.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    text NOT NULL,
    session_id   text NOT NULL,
    message      jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
