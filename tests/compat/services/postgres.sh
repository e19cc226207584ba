# postgresql: a new cluster, many connections, pgbench, a crash and its recovery, parallel queries, large objects and a dump.
set -e
export PATH=$PATH:/usr/lib/postgresql/15/bin PGDATA=/var/lib/pg PGPORT=5499 PGHOST=/tmp PGUSER=postgres
mkdir $PGDATA; chown postgres $PGDATA; as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
cd /tmp; as initdb -D $PGDATA -E UTF8 --locale C.UTF-8 -N > log 2>&1 || { cat log; exit 1; }
as pg_ctl -w -D $PGDATA -o "-c unix_socket_directories=/tmp -c listen_addresses=127.0.0.1 -c shared_buffers=32MB" -l /tmp/pglog start > /dev/null; q() { psql -XAtq -d postgres "$@"; }
q -c "select version() like 'PostgreSQL 15%'" -c "create table t as select g id, md5(g::text) m from generate_series(1, 50000) g" -c 'create index on t(m)' -c 'analyze t' -c "select count(*), min(m) from t"
pgbench -i -s 1 -q > /dev/null 2>&1 postgres; pgbench -c 4 -j 2 -t 100 postgres 2>/dev/null | grep 'processed'; q -c 'select count(*) from pgbench_history'
q -c 'set max_parallel_workers_per_gather = 2; set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0; set parallel_tuple_cost = 0' -c "select sum(id), max(m) from t where m like '%a%'"
q -c 'listen c' -c "notify c, 'to itself'" | sed 's/PID.*//'; q -c "set statement_timeout = 100" -c 'select pg_sleep(10)' 2>&1 || true; q -c 'begin; lock t; select 1' -c 'commit'
psql -h 127.0.0.1 -XAtq -d postgres -c 'select 2 + 3, inet_server_addr()'; seq 2000 > nums; q -c 'create table n(i int)' -c '\copy n from nums' -c 'select sum(i) from n' -c 'vacuum full n' -c 'checkpoint' -c 'cluster verbose t using t_m_idx' 2>/dev/null
q -c 'insert into n select generate_series(1, 100000)'; kill -9 $(q -c 'select pg_backend_pid()' -c "select pid from pg_stat_activity where backend_type = 'checkpointer'" | tail -1); sleep 0.3
until q -c 'select 1' >/dev/null 2>&1; do sleep 0.05; done; q -c 'select count(*) from n'; grep -c 'automatic recovery in progress' pglog
as pg_ctl -D $PGDATA stop -m immediate > /dev/null; as pg_ctl -w -D $PGDATA -o "-c unix_socket_directories=/tmp -c shared_memory_type=sysv -c dynamic_shared_memory_type=sysv -c shared_buffers=16MB -c fsync=on -c wal_sync_method=open_datasync" -l /tmp/pglog start > /dev/null; q -c 'select count(*) from pgbench_accounts'; pg_dump -t n postgres | grep -v restrict | md5sum; createdb other; pg_dump postgres | psql -Xq other > /dev/null; psql -XAtq other -c 'select count(*) from t'
q -c 'show wal_sync_method' -c 'show dynamic_shared_memory_type'; as pg_ctl -D $PGDATA stop -m fast > /dev/null; pg_controldata $PGDATA | grep 'cluster state' ; as pg_ctl -D $PGDATA status || echo status $?
