-- setup: what kind of server is this, and since when
SELECT current_setting('server_version_num')::bigint,
       pg_is_in_recovery()::int::bigint,
       (extract(epoch FROM greatest(pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time())) * 1000000)::bigint,
       coalesce(current_setting('withlock.session', true), ''),
       coalesce(current_setting('withlock.own', true), '');

-- setup: idle connections are ended, and this one is marked
SELECT pg_backend_pid()::bigint,
       set_config('withlock.session', gen_random_uuid()::text, false),
       set_config('idle_session_timeout', $1::bigint::text, false),
       set_config('statement_timeout', $1::bigint::text, false),
       CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN set_config('transaction_timeout', '0', false) END,
       set_config('lock_timeout', $1::bigint::text, false),
       set_config('tcp_user_timeout', $1::bigint::text, false),
       set_config('tcp_keepalives_idle', $2::bigint::text, false),
       set_config('tcp_keepalives_interval', $3::bigint::text, false),
       set_config('tcp_keepalives_count', '3', false);

-- setup: is it the same connection
SELECT pg_backend_pid()::bigint, current_setting('withlock.session', true);

-- setup, where it works: waits end with their client
SELECT set_config('client_connection_check_interval', $1::bigint::text, false);

-- try: take one if it is free
WITH server AS MATERIALIZED (
  SELECT CASE WHEN NOT (pg_backend_pid() = $1::bigint AND current_setting('withlock.session', true) IS NOT DISTINCT FROM $2::text) THEN -3
              WHEN pg_is_in_recovery() THEN -2
              WHEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint < $3::bigint THEN -1
              ELSE 0 END AS says
)
SELECT c.place,
       CASE WHEN s.says < 0 THEN s.says
            WHEN CASE c.mode WHEN 1 THEN pg_try_advisory_lock_shared(c.one::int, c.two::int)
                             ELSE pg_try_advisory_lock(c.one::int, c.two::int) END
            THEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
            ELSE 0 END
  FROM server AS s, (VALUES ($4::bigint, $5::bigint, $6::bigint, 1::bigint)) AS c (mode, one, two, place);

-- try: take what is free
WITH server AS MATERIALIZED (
  SELECT CASE WHEN NOT (pg_backend_pid() = $1::bigint AND current_setting('withlock.session', true) IS NOT DISTINCT FROM $2::text) THEN -3
              WHEN pg_is_in_recovery() THEN -2
              WHEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint < $3::bigint THEN -1
              ELSE 0 END AS says
)
SELECT c.place,
       CASE WHEN s.says < 0 THEN s.says
            WHEN CASE c.mode WHEN 1 THEN pg_try_advisory_lock_shared(c.one::int, c.two::int)
                             ELSE pg_try_advisory_lock(c.one::int, c.two::int) END
            THEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
            ELSE 0 END
  FROM server AS s, unnest($4::bigint[], $5::bigint[], $6::bigint[]) WITH ORDINALITY AS c (mode, one, two, place);

-- wait for a lock
WITH server AS MATERIALIZED (
  SELECT CASE WHEN NOT (pg_backend_pid() = $1::bigint AND current_setting('withlock.session', true) IS NOT DISTINCT FROM $2::text) THEN -3
              WHEN pg_is_in_recovery() THEN -2
              WHEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint < $3::bigint THEN -1
              ELSE 0 END AS says,
         set_config('lock_timeout', $4::bigint::text, true) AS up_to
)
SELECT c.place,
       CASE WHEN s.says < 0 THEN s.says
            WHEN s.up_to IS NULL THEN NULL
            WHEN CASE c.mode WHEN 1 THEN pg_advisory_lock_shared(c.one::int, c.two::int) IS NOT NULL
                             ELSE pg_advisory_lock(c.one::int, c.two::int) IS NOT NULL END
            THEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END
  FROM server AS s, (VALUES ($5::bigint, $6::bigint, $7::bigint, 1::bigint)) AS c (mode, one, two, place);

-- try and wait, if it failed: what was taken all the same
WITH ours AS MATERIALIZED (
  SELECT format('%s %s %s', l.classid, l.objid, l.objsubid) AS entry, l.mode
    FROM pg_locks AS l
   WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.granted
)
SELECT c.place,
       CASE WHEN NOT (pg_backend_pid() = $1::bigint AND current_setting('withlock.session', true) IS NOT DISTINCT FROM $2::text) THEN -3
            WHEN (c.entry, c.mode) IN (SELECT o.entry, o.mode FROM ours AS o) THEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
            ELSE 0 END
  FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS c (entry, mode, place);

-- unlock one
SELECT c.place,
       CASE WHEN NOT (pg_backend_pid() = $1::bigint AND current_setting('withlock.session', true) IS NOT DISTINCT FROM $2::text) THEN -3::bigint
            WHEN CASE c.mode WHEN 1 THEN pg_advisory_unlock_shared(c.one::int, c.two::int)
                             ELSE pg_advisory_unlock(c.one::int, c.two::int) END
            THEN 1
            ELSE 0 END
  FROM (VALUES ($3::bigint, $4::bigint, $5::bigint, 1::bigint)) AS c (mode, one, two, place);

-- unlock
SELECT c.place,
       CASE WHEN NOT (SELECT pg_backend_pid() = $1::bigint AND current_setting('withlock.session', true) IS NOT DISTINCT FROM $2::text) THEN -3::bigint
            WHEN CASE c.mode WHEN 1 THEN pg_advisory_unlock_shared(c.one::int, c.two::int)
                             ELSE pg_advisory_unlock(c.one::int, c.two::int) END
            THEN 1
            ELSE 0 END
  FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY AS c (mode, one, two, place);

-- keep: is it still this connection
SELECT (pg_backend_pid() = $1::bigint AND current_setting('withlock.session', true) IS NOT DISTINCT FROM $2::text AND NOT pg_is_in_recovery())::int::bigint;
