set -e
cd /tmp; mkdir www; seq 20000 > www/big; (cd www && exec python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1) & server=$!
python3 - <<'END'
import socket, time
for _ in range(100):
    try: socket.create_connection(("127.0.0.1", 8123)).close(); break
    except OSError: time.sleep(0.1)
END
curl -s http://127.0.0.1:8123/big | md5sum; for i in 1 2 3 4 5; do curl -s http://127.0.0.1:8123/big | wc -l & done; wait -n || true; wait $(jobs -p | grep -v $server) || true
python3 -c 'import urllib.request as u; print(len(u.urlopen("http://127.0.0.1:8123/big").read()))'; kill $server
python3 - <<'END'
import os, socket, threading
for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, "/tmp/u.sock"), (socket.AF_UNIX, "\0abstract")):
    server = socket.socket(family); server.bind(address); server.listen()
    def serve():
        c, _ = server.accept()
        while data := c.recv(65536): c.sendall(data)
        c.close()
    t = threading.Thread(target=serve); t.start()
    c = socket.socket(family); c.connect(server.getsockname()); c.sendall(b"x" * 100000); n = 0
    while n < 100000: n += len(c.recv(65536))
    c.shutdown(socket.SHUT_WR); print(family.name, n, c.recv(1)); t.join()
a, b = socket.socketpair(); socket.send_fds(a, [b"m"], [os.open("/etc/hostname", os.O_RDONLY)]); m, fds, *_ = socket.recv_fds(b, 10, 4); print(m, len(fds), os.read(fds[0], 3) != b"")
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0)); v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); v.sendto(b"d", u.getsockname()); print(u.recv(10))
print(sorted(name for _, name in socket.if_nameindex()))
END
