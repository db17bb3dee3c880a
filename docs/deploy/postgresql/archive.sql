-- History by month on PostgreSQL, apart from the live tables, which stay small.
--   psql "$DATABASE_URL" -f archive.sql                            once
--   psql "$DATABASE_URL" -c "SELECT archive.keep('2026-10-01')"    each month, then: duewatch prune
--   psql "$DATABASE_URL" -c "DROP TABLE archive.messages_2024_10"  a month's end, at once
-- A message is kept as JSON with its lines, attempts and receipts, so later versions of the schema
-- change nothing here. It holds addresses: who may read it is yours to say (GRANT).
CREATE SCHEMA IF NOT EXISTS archive;

CREATE TABLE IF NOT EXISTS archive.messages (
    at timestamptz NOT NULL,
    uid text NOT NULL,
    message jsonb NOT NULL,
    PRIMARY KEY (at, uid)
) PARTITION BY RANGE (at);

-- Keeps what was over in the month (UTC) that begins with that day; returns how many were new.
-- Run again, it adds what wasn't over then. A message that changed since stands in its new month.
CREATE OR REPLACE FUNCTION archive.keep(month date) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', month)::timestamp AT TIME ZONE 'UTC';
    after timestamptz := (date_trunc('month', month) + interval '1 month')::timestamp
        AT TIME ZONE 'UTC';
    kept bigint;
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS archive.%I PARTITION OF archive.messages '
        'FOR VALUES FROM (%L) TO (%L)',
        'messages_' || to_char(month, 'YYYY_MM'), first, after
    );
    INSERT INTO archive.messages (at, uid, message)
    SELECT n.changed_at, n.uid, to_jsonb(n) || jsonb_build_object(
        'lines', (
            SELECT coalesce(jsonb_agg(to_jsonb(o) || jsonb_build_object(
                'record', r.kind || ' ' || r.ref) ORDER BY o.id), '[]')
            FROM occurrences o JOIN records r ON r.id = o.record_id
            WHERE o.notification_id = n.id
        ),
        'attempts', (
            SELECT coalesce(jsonb_agg(to_jsonb(a) ORDER BY a.number), '[]')
            FROM attempts a WHERE a.notification_id = n.id
        ),
        'receipts', (
            SELECT coalesce(jsonb_agg(to_jsonb(e) ORDER BY e.id), '[]')
            FROM receipts e WHERE e.notification_id = n.id
        )
    )
    FROM notifications n
    WHERE n.state IN ('accepted', 'delivered', 'failed', 'suppressed', 'cancelled')
        AND n.changed_at >= first AND n.changed_at < after
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS kept = ROW_COUNT;
    RETURN kept;
END
$$;
