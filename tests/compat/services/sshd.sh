# sshd and its clients: commands, terminals, sftp, scp, forwarding, many connections at once, another user, refusals, a restart.
set -e
mkdir -p /run/sshd ~/.ssh; chmod 700 ~/.ssh; cd /tmp; useradd -m -s /bin/bash visitor; touch ~/.hushlogin ~visitor/.hushlogin
for key in key other; do ssh-keygen -q -t ed25519 -N '' -f $key; done; cp key.pub ~/.ssh/authorized_keys; install -d -o visitor -g visitor ~visitor/.ssh; install -o visitor -g visitor key.pub ~visitor/.ssh/authorized_keys
printf 'Host *\nHostName 127.0.0.1\nPort 2222\nUser root\nIdentityFile /tmp/key\nIdentitiesOnly yes\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n' > ~/.ssh/config
/usr/sbin/sshd -p 2222 -E /tmp/log; ends() { local code=0; "$@" || code=$?; echo "ends with $code"; }
ends ssh h 'echo out; echo err >&2; exit 7' 2>&1 | sort; seq 300000 | ssh h 'md5sum; seq 300000' | md5sum; ends ssh h 'kill -TERM $$' | tail -1
ssh h 'echo $SSH_CONNECTION | cut -d" " -f1,3,4; cat /proc/self/loginuid; echo; test "$(cat /proc/self/sessionid)" != 4294967295; echo $?; ulimit -n'
ssh -tt h 'tty | tr -d 0-9; stty -a | grep -o "speed [0-9]*"; ps -o tty= $$ | tr -d 0-9; exit 3' </dev/null || echo $?
ssh -l visitor h 'id; touch f; ls -l f | cut -c1-10; cat /proc/self/loginuid | wc -c; cat /etc/shadow 2>&1'  || echo $?
ends ssh -i other -o BatchMode=yes -F none -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -p 2222 127.0.0.1 true 2>&1 | grep -v '^Warning' | tr -d '\r'; ends ssh -l nobody -o BatchMode=yes h true 2>&1 | tr -d '\r'
mkdir up; seq 200000 > up/large; echo small > up/small; ln -s small up/link; printf 'mkdir /tmp/a\nput -r up /tmp/a\nchmod 600 /tmp/a/up/small\nrename /tmp/a/up/small /tmp/a/up/renamed\nsymlink renamed /tmp/a/up/l\nls -1 /tmp/a/up\nget /tmp/a/up/large back\nrm /tmp/a/up/large\ndf /tmp\n' > batch
sftp -b batch h | grep -v -e '^ *[0-9]' -e Size; cmp back up/large; ls a/up; stat -c '%a %F' a/up/renamed; scp -q -r up h:/tmp/b; scp -q -O -p up/large h:/tmp/c; cmp up/large c; scp -q h:/tmp/b/small d; cat d; ls b
python3 -m http.server -b 127.0.0.1 -d up 8140 2>/dev/null & web=$!; ssh -f -N -M -S socket -o ExitOnForwardFailure=yes -L 8141:127.0.0.1:8140 -R 8142:127.0.0.1:8140 -D 8143 h; until curl -s -o /dev/null http://127.0.0.1:8140; do sleep 0.05; done
for port in 8141 8142; do curl -s http://127.0.0.1:$port/large | md5sum; done; curl -s -x socks5h://127.0.0.1:8143 http://localhost:8140/small; for i in $(seq 8); do ssh -S socket h "echo shared $i" & jobs[i]=$!; done | sort; ssh -S socket -O exit h 2>/dev/null; kill $web
for i in 1 2 3 4 5 6; do ssh h "seq $i 50000 | md5sum" > many.$i & many="$many $!"; done; wait $many; cat many.*
first=$(cat /run/sshd.pid); kill -HUP $first; until grep -q 'Received SIGHUP' log && ssh h true 2>/dev/null; do sleep 0.05; done; ssh h echo again; kill $(cat /run/sshd.pid); while kill -0 $first 2>/dev/null; do sleep 0.05; done; ends ssh h true 2>&1 | tail -1
