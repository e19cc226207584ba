# redis: persistence by fork (BGSAVE, AOF rewriting), a kill and what is there again, blocking calls, subscriptions, scripts, its threads.
set -e
cd /tmp; up() { redis-server --port 6399 --daemonize no --dir /tmp --logfile /tmp/log --save '' "$@" & server=$!; until redis-cli -p 6399 ping 2>/dev/null | grep -q PONG; do sleep 0.02; done; }
r() { redis-cli -p 6399 "$@"; }
up --appendonly yes --appendfsync always --io-threads 2 --unixsocket /tmp/redis.sock
r set a 1; r incr a; r eval 'for i = 1, 20000 do redis.call("set", "k" .. i, i) end return redis.call("dbsize")' 0
seq 5000 | sed 's/.*/SET p& v&/' | r --pipe | tail -1; redis-cli -s /tmp/redis.sock get p77
r bgsave; until r info persistence | grep -q 'rdb_bgsave_in_progress:0'; do sleep 0.02; done; r info persistence | tr -d '\r' | grep last_bgsave_status; redis-check-rdb dump.rdb | tail -1 | cut -c1-60
r bgrewriteaof; until r info persistence | grep -q 'aof_rewrite_in_progress:0'; do sleep 0.02; done; r info persistence | tr -d '\r' | grep aof_last_bgrewrite_status
r blpop list 5 > popped & sleep 0.2; r rpush list x; wait %2; cat popped; time r blpop none 0.1 2>/dev/null
(r subscribe c & echo $! > sub; wait) > heard 2>&1 & until r pubsub numsub c | grep -qx 1; do :; done; r publish c hello; sleep 0.1; kill $(cat sub); tail -1 heard
r config set maxmemory 5mb > /dev/null; r config set maxmemory-policy allkeys-lru; r flushall async; r set after 2
kill -9 $server; wait $server || true; up --appendonly yes; r get after; r dbsize; r debug jmap 2>/dev/null | head -1 || true
r xadd s '1-1' f v; r xread count 1 streams s 0 | tail -1; r multi | cat; r client list | wc -l; r memory doctor | cut -c1-20; r latency latest | wc -l
redis-benchmark -p 6399 -n 2000 -c 20 -P 4 -t set,get,lpush,mset -q 2>/dev/null | tr '\r' '\n' | grep -c 'requests per second'
r shutdown nosave; wait $server; echo $?; grep -ci 'warn\|error\|fail' log || true
