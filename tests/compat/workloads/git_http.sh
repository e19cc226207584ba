# git over http: a server of git's own behind Python's, cloned, fetched and pushed to.
set -e
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git config --system user.email a@b.c; git config --system user.name n; git config --system init.defaultBranch main; git config --system safe.directory '*'
mkdir -p /srv/cgi-bin; cd /srv; git init -q --bare r.git; git -C r.git config http.receivepack true; chown -R nobody r.git
printf '#!/bin/sh\nGIT_PROJECT_ROOT=/srv GIT_HTTP_EXPORT_ALL=1 exec git http-backend\n' > cgi-bin/git; chmod 755 cgi-bin/git
python3 -m http.server --cgi --bind 127.0.0.1 8124 >/dev/null 2>&1 & server=$!
until curl -s -o /dev/null http://127.0.0.1:8124/; do :; done
url=http://127.0.0.1:8124/cgi-bin/git/r.git
git clone -q $url /tmp/a 2>/dev/null; cd /tmp/a
for i in $(seq 30); do seq $((i * 100)) > f$i; git add .; git commit -qm "commit $i"; done
git push -q origin main; git clone -q $url /tmp/b; cd /tmp/b; git rev-parse HEAD; git log --oneline | wc -l
cd /tmp/a; git tag -a v1 -m one; git push -q --tags; cd /tmp/b; git fetch -q --tags; git describe; git fsck 2>&1 | tail -1
git clone -q --depth 2 $url /tmp/c; git -C /tmp/c log --oneline | wc -l
kill $server
