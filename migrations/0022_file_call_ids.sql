-- Work on files has an id of its own instead of a number that all tenants share, which would tell one
-- how much the others do.
ALTER TABLE file_calls ALTER COLUMN id DROP IDENTITY;
ALTER TABLE file_calls ALTER COLUMN id TYPE text
    USING 'fcl_' || replace(gen_random_uuid()::text, '-', '');
