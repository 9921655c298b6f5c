-- Times of a chain never go back, whatever the clock does: who looks for a time finds a number.
ALTER TABLE audit_heads ADD COLUMN time_us bigint NOT NULL DEFAULT 0;

-- The same bytes as before (0018); the head's time is new.
CREATE OR REPLACE FUNCTION advance_audit_head(
    own_chain text, genesis bytea, before bytea, chain_field bytea, rest bytea,
    OUT new_seq bigint, OUT new_time_us bigint, OUT new_hash bytea
) LANGUAGE plpgsql AS $$
DECLARE
    -- The length of a number as a field; the bytes of both numbers, the other way round.
    eight CONSTANT bytea := '\x0800000000000000';
    previous bytea;
    last_us bigint;
    s bytea;
    t bytea;
BEGIN
    SELECT seq + 1, hash, time_us INTO new_seq, previous, last_us
        FROM public.audit_heads WHERE chain = own_chain FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO public.audit_heads (chain, seq, hash) VALUES (own_chain, 0, genesis)
            ON CONFLICT DO NOTHING;
        SELECT seq + 1, hash, time_us INTO STRICT new_seq, previous, last_us
            FROM public.audit_heads WHERE chain = own_chain FOR UPDATE;
    END IF;
    new_time_us := greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, last_us);
    s := int8send(new_seq);
    t := int8send(new_time_us);
    new_hash := sha256(before || previous || chain_field
        || eight || substring(s, 8, 1) || substring(s, 7, 1) || substring(s, 6, 1)
        || substring(s, 5, 1) || substring(s, 4, 1) || substring(s, 3, 1) || substring(s, 2, 1)
        || substring(s, 1, 1)
        || eight || substring(t, 8, 1) || substring(t, 7, 1) || substring(t, 6, 1)
        || substring(t, 5, 1) || substring(t, 4, 1) || substring(t, 3, 1) || substring(t, 2, 1)
        || substring(t, 1, 1)
        || rest);
    UPDATE public.audit_heads SET seq = new_seq, hash = new_hash, time_us = new_time_us
        WHERE chain = own_chain;
END $$;
