-- Appending an event in three quarters of the time. Most of it was not the work but its preparation:
-- Postgres sets up each function of an expression anew in each transaction, and the hash had sixty.

-- Times of a chain never go back (0019), so who looks for a time finds a number without an index: the
-- first event at that time or later; the greatest number if there is none.
CREATE FUNCTION first_audit_from(own_chain text, from_us bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 1;
    -- No event below `low` is as late, and the one with the number `high` is, if there is one.
    high bigint;
    beyond bigint;
    middle bigint;
BEGIN
    SELECT coalesce(max(seq), 0) + 1 INTO beyond FROM audit_events WHERE chain = own_chain;
    high := beyond;
    WHILE low < high LOOP
        middle := (low + high) / 2;
        IF (SELECT time_us FROM audit_events WHERE chain = own_chain AND seq = middle) < from_us THEN
            low := middle + 1;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN CASE WHEN low = beyond THEN 9223372036854775807 ELSE low END;
END $$;
REVOKE ALL ON FUNCTION first_audit_from FROM PUBLIC;
GRANT EXECUTE ON FUNCTION first_audit_from TO bulkhead_app;
DROP INDEX audit_events_by_time;

-- As before (0020): the same bytes under the hash. Its time is that at which the append began, before
-- a wait for the head, unless the event before has a later one.
CREATE OR REPLACE FUNCTION append_audit(
    genesis bytea, before bytea, chain_field bytea, rest bytea,
    role text, token_id text, action text, object text, session_id text, exec_id text,
    outcome text, decision text, rules text[], policy_version bigint, approver text,
    sandbox_id text, sandbox_generation bigint, image_digest text, detail_sha256 bytea,
    salt bytea, actor text, address text, reasons text[], stdout_sha256 bytea,
    stderr_sha256 bytea, data text, programs text[]
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
#variable_conflict use_variable
DECLARE
    own text := current_setting('app.tenant_id');
    now_us bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    new_seq bigint;
    new_us bigint;
    new_hash bytea;
BEGIN
    IF (decision IS NULL) <> (rules IS NULL)
        OR (sandbox_id IS NULL) <> (sandbox_generation IS NULL)
        OR num_nulls(salt, actor, reasons, data) > 0
    THEN
        RAISE EXCEPTION 'the audit event is not whole' USING ERRCODE = 'check_violation';
    END IF;
    LOOP
        UPDATE public.audit_heads h SET
            seq = h.seq + 1,
            time_us = greatest(h.time_us, now_us),
            -- Each number: its length, then its bytes the other way round. The letters stand for the
            -- digits of both numbers, from the first of the one to the last of the other.
            hash = sha256(before || h.hash || chain_field || decode(translate(
                '0800000000000000opmnklijghefcdab0800000000000000EFCDAByzwxuvstqr',
                'abcdefghijklmnopqrstuvwxyzABCDEF',
                lpad(to_hex(h.seq + 1), 16, '0') || lpad(to_hex(greatest(h.time_us, now_us)), 16, '0')
            ), 'hex') || rest)
            WHERE h.chain = own
            RETURNING h.seq, h.time_us, h.hash INTO new_seq, new_us, new_hash;
        EXIT WHEN FOUND;
        -- The first event of a chain.
        INSERT INTO public.audit_heads (chain, seq, hash) VALUES (own, 0, genesis)
            ON CONFLICT DO NOTHING;
    END LOOP;
    INSERT INTO public.audit_events (chain, seq, time_us, hash, role, token_id, action, object,
            session_id, exec_id, outcome, decision, rules, policy_version, approver,
            sandbox_id, sandbox_generation, image_digest, detail_sha256, salt, actor, address,
            reasons, stdout_sha256, stderr_sha256, data, programs)
        VALUES (own, new_seq, new_us, new_hash, role, token_id, action, object,
            session_id, exec_id, outcome, decision, rules, policy_version, approver,
            sandbox_id, sandbox_generation, image_digest, detail_sha256, salt, actor, address,
            reasons, stdout_sha256, stderr_sha256, data, programs);
END $$;
