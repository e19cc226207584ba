# nginx: master and workers, static files by sendfile, a reload under load, an upgraded binary, graceful ends.
set -e
mkdir -p /tmp/n/www; cd /tmp/n; seq 100000 > www/big; echo hello > www/small
cat > conf <<'END'
user www-data; worker_processes 2; pid /tmp/n/pid; error_log /tmp/n/error info; events { worker_connections 256; }
http { access_log /tmp/n/access; sendfile on; tcp_nopush on; aio threads; gzip on; gzip_types text/plain; client_body_temp_path /tmp/n/b; proxy_temp_path /tmp/n/p; fastcgi_temp_path /tmp/n/f; uwsgi_temp_path /tmp/n/u; scgi_temp_path /tmp/n/s; proxy_cache_path /tmp/n/cache keys_zone=z:1m;
server { listen 127.0.0.1:8130 reuseport; listen unix:/tmp/n/sock; root /tmp/n/www; autoindex on; location /proxy/ { proxy_pass http://unix:/tmp/n/sock:/; proxy_cache z; proxy_cache_valid 1m; } location /direct/ { alias /tmp/n/www/; directio 4k; } } }
END
nginx -t -c /tmp/n/conf 2>&1 | tail -1; /usr/sbin/nginx -c /tmp/n/conf; url=http://127.0.0.1:8130; get() { curl -sS "$@"; }
get $url/big | md5sum; get $url/direct/big | md5sum; get $url/proxy/big | md5sum; get --compressed $url/big | md5sum; get -r 10-19 $url/big; get --unix-socket sock http://x/small; get -I $url/small | head -1; get -o /dev/null -w '%{http_code}\n' $url/none; get $url/ | grep -c href
until [ $(ps -C nginx -o user= | grep -c www-data) -ge 2 ]; do sleep 0.02; done; ps -C nginx -o user= | sort -u
for i in $(seq 40); do get -o /dev/null -w '%{http_code}\n' $url/big; done > codes & clients=$!; for i in 1 2 3; do nginx -s reload -c /tmp/n/conf; sleep 0.1; done; wait $clients; sort codes | uniq -c | tr -s ' '
nginx -s reopen -c /tmp/n/conf; old=$(cat pid); kill -USR2 $old; until [ -s pid ] && [ "$(cat pid)" != $old ]; do sleep 0.02; done; kill -QUIT $old; while kill -0 $old 2>/dev/null; do sleep 0.02; done; get $url/small; new=$(cat pid); nginx -s quit -c /tmp/n/conf; while kill -0 $new 2>/dev/null; do sleep 0.02; done; get $url/small 2>/dev/null || echo $?; grep -c '\[alert\]' error; wc -l < access
