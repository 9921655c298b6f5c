-- For whoever signs checkpoints: the hashes that events have now, to be compared with what was signed.
-- Nothing else of an event is shown.
CREATE FUNCTION audit_hashes_at(of_chains text[], at_seqs bigint[])
RETURNS TABLE (chain text, hash bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    IF current_setting('app.tenant_id') <> 'system' THEN
        RAISE EXCEPTION 'only the platform compares chains with their checkpoints';
    END IF;
    FOR i IN 1 .. coalesce(cardinality(of_chains), 0) LOOP
        PERFORM set_config('app.tenant_id', of_chains[i], true);
        RETURN QUERY SELECT e.chain, e.hash FROM public.audit_events e
            WHERE e.chain = of_chains[i] AND e.seq = at_seqs[i];
    END LOOP;
    PERFORM set_config('app.tenant_id', 'system', true);
END $$;
REVOKE ALL ON FUNCTION audit_hashes_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_hashes_at TO bulkhead_app;
