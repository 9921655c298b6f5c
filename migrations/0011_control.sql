-- What part 3 adds later: kept answers of requests with an Idempotency-Key, and traces.

-- The answer of a request that shows a secret, wrapped with the master key; kept as long as its key.
ALTER TABLE idempotency_keys ADD COLUMN answer bytea;
GRANT UPDATE (answer) ON idempotency_keys TO bulkhead_app;

-- The trace that a piece of work belongs to (W3C traceparent), where traces are exported.
ALTER TABLE execs ADD COLUMN traceparent text;
ALTER TABLE turns ADD COLUMN traceparent text;
