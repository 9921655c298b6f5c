-- Appending an event in three quarters of the instructions, and programs under the hash.

-- What is appended, in one value: Postgres reads one literal instead of two dozen arguments, each with
-- a type to be found out.
CREATE TYPE audit_entry AS (
    role text, token_id text, action text, object text, session_id text, exec_id text,
    outcome text, decision text, rules text[], policy_version bigint, approver text,
    sandbox_id text, sandbox_generation bigint, image_digest text, detail_sha256 bytea,
    salt bytea, actor text, address text, reasons text[], stdout_sha256 bytea,
    stderr_sha256 bytea, data text
);

-- As before (0023): the same bytes under the hash.
CREATE FUNCTION append_audit(e audit_entry, before bytea, chain_field bytea, rest bytea)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    own text := current_setting('app.tenant_id');
    now_us bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    new_seq bigint;
    new_us bigint;
    new_hash bytea;
BEGIN
    IF (e.decision IS NULL) <> (e.rules IS NULL)
        OR (e.sandbox_id IS NULL) <> (e.sandbox_generation IS NULL)
        OR num_nulls(e.salt, e.actor, e.reasons, e.data) > 0
    THEN
        RAISE EXCEPTION 'the audit event is not whole' USING ERRCODE = 'check_violation';
    END IF;
    LOOP
        UPDATE public.audit_heads h SET
            seq = h.seq + 1,
            time_us = greatest(h.time_us, now_us),
            -- Each number: its length, then its bytes the other way round. The mask is 0f in each
            -- byte: the digits of each byte change places, and then all of them are reversed.
            hash = sha256(before || h.hash || chain_field || decode(reverse(
                lpad(to_hex(((greatest(h.time_us, now_us) & 1085102592571150095) << 4)
                    | ((greatest(h.time_us, now_us) >> 4) & 1085102592571150095)), 16, '0')
                || '0000000000000080'
                || lpad(to_hex((((h.seq + 1) & 1085102592571150095) << 4)
                    | (((h.seq + 1) >> 4) & 1085102592571150095)), 16, '0')
                || '0000000000000080'
            ), 'hex') || rest)
            WHERE h.chain = own
            RETURNING h.seq, h.time_us, h.hash INTO new_seq, new_us, new_hash;
        EXIT WHEN FOUND;
        -- The first event of a chain, after 32 zero bytes.
        INSERT INTO public.audit_heads (chain, seq, hash)
            VALUES (own, 0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;
    END LOOP;
    INSERT INTO public.audit_events (chain, seq, time_us, hash, role, token_id, action, object,
            session_id, exec_id, outcome, decision, rules, policy_version, approver,
            sandbox_id, sandbox_generation, image_digest, detail_sha256, salt, actor, address,
            reasons, stdout_sha256, stderr_sha256, data)
        VALUES (own, new_seq, new_us, new_hash, e.role, e.token_id, e.action, e.object,
            e.session_id, e.exec_id, e.outcome, e.decision, e.rules, e.policy_version, e.approver,
            e.sandbox_id, e.sandbox_generation, e.image_digest, e.detail_sha256, e.salt, e.actor,
            e.address, e.reasons, e.stdout_sha256, e.stderr_sha256, e.data);
END $$;
REVOKE ALL ON FUNCTION append_audit(audit_entry, bytea, bytea, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_audit(audit_entry, bytea, bytea, bytea) TO bulkhead_app;

-- For instances that are not replaced yet.
CREATE OR REPLACE FUNCTION append_audit(
    genesis bytea, before bytea, chain_field bytea, rest bytea,
    role text, token_id text, action text, object text, session_id text, exec_id text,
    outcome text, decision text, rules text[], policy_version bigint, approver text,
    sandbox_id text, sandbox_generation bigint, image_digest text, detail_sha256 bytea,
    salt bytea, actor text, address text, reasons text[], stdout_sha256 bytea,
    stderr_sha256 bytea, data text, programs text[]
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM public.append_audit(
        ROW(role, token_id, action, object, session_id, exec_id, outcome, decision, rules,
            policy_version, approver, sandbox_id, sandbox_generation, image_digest, detail_sha256,
            salt, actor, address, reasons, stdout_sha256, stderr_sha256, data
        )::public.audit_entry, before, chain_field, rest);
END $$;

-- Programs stand in the detail's data, where the hash covers them. The column stays empty, and an
-- event that has something there is refused: nobody adds a program unnoticed. Those of blocks that
-- are full are found by their terms as before.
ALTER TABLE audit_events NO FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_events DISABLE TRIGGER audit_events_are_only_erased;
UPDATE audit_events SET programs = NULL WHERE programs IS NOT NULL;
ALTER TABLE audit_events ENABLE TRIGGER audit_events_are_only_erased;
ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;

-- When somebody last said what an undecided exec waits for: a workflow that lives says it again.
ALTER TABLE execs ADD COLUMN waited_at timestamptz;
ALTER TABLE execs NO FORCE ROW LEVEL SECURITY;
UPDATE execs SET waited_at = now() WHERE waiting_reason IS NOT NULL;
ALTER TABLE execs FORCE ROW LEVEL SECURITY;
