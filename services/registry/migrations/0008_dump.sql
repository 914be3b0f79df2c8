-- Every row of the record as text, but for what is on its way out: two records are equal when these are. Surrogate keys
-- leave gaps, so rows that have one are numbered within their model or stream instead.
CREATE FUNCTION dumped() RETURNS TABLE (name text, content text) LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT c.relname, coalesce(bool_or(a.attname = 'position' AND a.attidentity <> ''), false) AS numbered,
               coalesce('PARTITION BY ' || min(a.attname::text) FILTER (WHERE a.attname IN ('model', 'stream')), '') AS of
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
          AND c.relname NOT IN ('migration', 'outbox')
        GROUP BY c.relname
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L::text, %s (to_jsonb(t) - %L::text[])::text FROM %I t',
            t.relname,
            CASE WHEN t.numbered THEN format('row_number() OVER (%s ORDER BY position) || '' '' ||', t.of) END,
            CASE WHEN t.numbered THEN '{position}' ELSE '{received_at}' END,
            t.relname);
    END LOOP;
END $$;
