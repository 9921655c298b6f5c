-- The same numbers, times and hashes as before (0012) in two thirds of the time: a function in SQL
-- costs a start of the executor at each call, and the head of a chain is held meanwhile.
CREATE OR REPLACE FUNCTION advance_audit_head(
    own_chain text, genesis bytea, before bytea, chain_field bytea, rest bytea,
    OUT new_seq bigint, OUT new_time_us bigint, OUT new_hash bytea
) LANGUAGE plpgsql AS $$
DECLARE
    -- The length of a number as a field; the bytes of both numbers, the other way round.
    eight CONSTANT bytea := '\x0800000000000000';
    previous bytea;
    s bytea;
    t bytea;
BEGIN
    SELECT seq + 1, hash INTO new_seq, previous
        FROM public.audit_heads WHERE chain = own_chain FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO public.audit_heads (chain, seq, hash) VALUES (own_chain, 0, genesis)
            ON CONFLICT DO NOTHING;
        SELECT seq + 1, hash INTO STRICT new_seq, previous
            FROM public.audit_heads WHERE chain = own_chain FOR UPDATE;
    END IF;
    -- After the lock: times are in the order of the numbers.
    new_time_us := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
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
    UPDATE public.audit_heads SET seq = new_seq, hash = new_hash WHERE chain = own_chain;
END $$;
DROP FUNCTION audit_number(bigint);

-- Output is large, and Postgres' own compression takes longer than everything else about it.
DO $$ BEGIN
    ALTER TABLE output_chunks ALTER COLUMN bytes SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    -- A server that was built without it.
    ALTER TABLE output_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;
END $$;
