# nginx: master and workers, static files by sendfile and directio, a proxy with a cache, reloads and an upgraded binary under load, graceful ends.
set -e
mkdir -p /tmp/n/www; chmod 755 /tmp/n; cd /tmp/n; seq 100000 > www/big; echo hello > www/small
cat > conf <<'END'
user www-data; worker_processes 2; pid /tmp/n/pid; error_log /tmp/n/error info; events { worker_connections 256; }
http { access_log /tmp/n/access; sendfile on; tcp_nopush on; gzip on; gzip_types *; client_body_temp_path /tmp/n/b; proxy_temp_path /tmp/n/p; fastcgi_temp_path /tmp/n/f; uwsgi_temp_path /tmp/n/u; scgi_temp_path /tmp/n/s; proxy_cache_path /tmp/n/cache keys_zone=z:1m;
server { listen 127.0.0.1:8130; listen unix:/tmp/n/sock; root /tmp/n/www; autoindex on; location /proxy/ { proxy_pass http://unix:/tmp/n/sock:/; proxy_cache z; proxy_cache_valid 1m; add_header X-Cache $upstream_cache_status; } location /direct/ { alias /tmp/n/www/; directio 4k; } location /version { return 200 "one\n"; } } }
END
n() { /usr/sbin/nginx -c /tmp/n/conf "$@"; }; url=http://127.0.0.1:8130; get() { curl -sS "$@"; }; workers() { ps -o user=,pid=,args= --ppid $(cat pid) | grep "worker process *$"; }; gone() { while kill -0 $1 2>/dev/null; do sleep 0.02; done; }
n -t 2>&1 | tail -1; n; until [ "$(workers | wc -l)" = 2 ]; do sleep 0.02; done; workers | cut -d" " -f1
for place in big direct/big proxy/big proxy/big; do get $url/$place | md5sum; done; get --compressed $url/big | md5sum; get -r 10-19 $url/big; get --unix-socket sock http://x/small; get -I $url/small | head -1; get -o /dev/null -w '%{http_code}\n' $url/none; get $url/ | grep -c href; get -I $url/proxy/big | grep X-Cache
load() { for i in $(seq 60); do get -o /dev/null -w '%{http_code} %{size_download}\n' $url/big; done | sort | uniq -c; }
load > loaded & clients=$!; for version in two three four; do sed -i "s/return 200 \"[a-z]*/return 200 \"$version/" conf; n -s reload; until [ "$(get $url/version)" = $version ]; do sleep 0.02; done; echo $version; done; wait $clients; cat loaded
mv access access.old; n -s reopen; until get -o /dev/null $url/small && grep -q small access; do sleep 0.02; done
old=$(cat pid); load > loaded & clients=$!; kill -USR2 $old; until [ -s pid.oldbin -a -s pid ] && [ "$(cat pid)" != $old ]; do sleep 0.02; done; until [ "$(workers | wc -l)" = 2 ]; do sleep 0.02; done; kill -QUIT $old; gone $old; wait $clients; cat loaded; get $url/small
worker=$(workers | head -1 | tr -s ' ' | cut -d' ' -f2); kill -KILL $worker; gone $worker; until [ "$(workers | wc -l)" = 2 ]; do sleep 0.02; done; get $url/small
new=$(cat pid); n -s quit; gone $new; get $url/small 2>/dev/null || echo $?; ls pid sock 2>&1 || true; grep -c '\[\(emerg\|crit\)\]' error || true
