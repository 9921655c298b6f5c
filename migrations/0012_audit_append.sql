-- The executor that an exec was granted to: no other one ever gets it.
ALTER TABLE execs ADD COLUMN executor_id text;

-- Appending to a chain in one round trip, so that its head is held as shortly as can be. The bytes
-- under the hash are those of crates/audit (docs/audit.md): what the head decides is put in here,
-- the rest comes encoded.

-- A number as a field: its length, 8, and its bytes, both little endian.
CREATE FUNCTION audit_number(n bigint) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT '\x0800000000000000'::bytea
        || substring(b, 8, 1) || substring(b, 7, 1) || substring(b, 6, 1) || substring(b, 5, 1)
        || substring(b, 4, 1) || substring(b, 3, 1) || substring(b, 2, 1) || substring(b, 1, 1)
    FROM (SELECT int8send(n)) AS bytes(b)
$$;

-- Takes the next number of the chain: gives it, its time in microseconds, and its hash. The caller
-- inserts the event in the same transaction. Runs with the caller's rights and row security, and
-- without a search path of its own, which would cost more than all the rest.
CREATE FUNCTION advance_audit_head(
    own_chain text, genesis bytea, before bytea, chain_field bytea, rest bytea,
    OUT new_seq bigint, OUT new_time_us bigint, OUT new_hash bytea
) LANGUAGE plpgsql AS $$
DECLARE
    previous bytea;
BEGIN
    SELECT seq, hash INTO new_seq, previous
        FROM public.audit_heads WHERE chain = own_chain FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO public.audit_heads (chain, seq, hash) VALUES (own_chain, 0, genesis)
            ON CONFLICT DO NOTHING;
        SELECT seq, hash INTO STRICT new_seq, previous
            FROM public.audit_heads WHERE chain = own_chain FOR UPDATE;
    END IF;
    new_seq := new_seq + 1;
    -- After the lock: times are in the order of the numbers.
    new_time_us := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    new_hash := sha256(before || previous || chain_field
        || public.audit_number(new_seq) || public.audit_number(new_time_us) || rest);
    UPDATE public.audit_heads SET seq = new_seq, hash = new_hash WHERE chain = own_chain;
END $$;
