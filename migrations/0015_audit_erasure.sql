-- Erasure of details: of one exec, of one session, or of all that is older than a time. What the
-- function that was here before let through is now the database's to refuse.

DROP FUNCTION erase_audit_details(bigint, bigint);

-- What retention has not erased yet.
CREATE INDEX audit_events_with_detail ON audit_events (chain, time_us) WHERE salt IS NOT NULL;

-- Erases the details of at most `most` events, in order; gives how many, and, when these were all,
-- how many more of the same scope keep theirs. Details stay
--   of events that no signed checkpoint covers yet: their hash is vouched for by nobody,
--   of execs that are not over,
--   of erasures themselves and of what was said about retention.
-- Runs as its owner, who alone may write there; row-level security holds for the owner too, so the
-- chain is the caller's own.
CREATE FUNCTION erase_audit_details(
    of_exec text, of_session text, before_us bigint, most bigint,
    OUT erased bigint, OUT kept bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    own text := current_setting('app.tenant_id');
    signed bigint;
    within text;
    picked bigint[];
BEGIN
    IF num_nonnulls(of_exec, of_session, before_us) <> 1 OR most IS NULL OR most < 1 THEN
        RAISE EXCEPTION 'erase the details of one exec, of one session, or before one time';
    END IF;
    within := 'FROM public.audit_events e
               WHERE e.chain = $1 AND e.salt IS NOT NULL
                 AND e.action NOT IN (''audit.erase'', ''audit.retention'') AND '
        || CASE WHEN of_exec IS NOT NULL THEN 'e.exec_id = $2'
                WHEN of_session IS NOT NULL THEN 'e.session_id = $3'
                ELSE 'e.time_us < $4' END;
    SELECT coalesce(max(size), 0) INTO signed
        FROM public.audit_checkpoint_proofs WHERE chain = own;
    -- Locked in order, so that two erasures wait for each other and count nothing twice.
    EXECUTE 'SELECT array_agg(seq) FROM (
                 SELECT e.seq ' || within || ' AND e.seq <= $5
                   AND NOT EXISTS (SELECT FROM public.execs x
                                   WHERE x.tenant_id = $1 AND x.id = e.exec_id
                                     AND x.finished_at IS NULL)
                 ORDER BY e.seq LIMIT $6 FOR UPDATE OF e) AS due'
        INTO picked USING own, of_exec, of_session, before_us, signed, most;
    DELETE FROM public.audit_terms WHERE chain = own AND seq = ANY (picked);
    UPDATE public.audit_events
        SET salt = NULL, actor = NULL, address = NULL, reasons = NULL, stdout_sha256 = NULL,
            stderr_sha256 = NULL, data = NULL
        WHERE chain = own AND seq = ANY (picked) AND salt IS NOT NULL;
    GET DIAGNOSTICS erased = ROW_COUNT;
    IF coalesce(cardinality(picked), 0) < most THEN
        EXECUTE 'SELECT count(*) ' || within INTO kept
            USING own, of_exec, of_session, before_us;
    END IF;
END $$;
REVOKE ALL ON FUNCTION erase_audit_details FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_audit_details TO bulkhead_app;
