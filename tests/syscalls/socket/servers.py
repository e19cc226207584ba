import asyncio
import http.server
import os
import socket
import socketserver
import tempfile
import threading
import urllib.request


class Q(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a):
        pass


os.chdir(tempfile.mkdtemp())
open("f", "wb").write(os.urandom(1) * 3000000)
srv = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Q)
threading.Thread(target=srv.serve_forever, daemon=True).start()
for _i in range(3):
    print(len(urllib.request.urlopen(f"http://127.0.0.1:{srv.server_port}/f").read()))
srv.shutdown()


async def main():
    async def h(r, w):
        w.write((await r.read(100)).upper())
        await w.drain()
        w.close()

    for make, conn in (
        (lambda: asyncio.start_server(h, "127.0.0.1", 0), lambda s: asyncio.open_connection(*s.sockets[0].getsockname())),
        (lambda: asyncio.start_unix_server(h, "u.sock"), lambda s: asyncio.open_unix_connection("u.sock")),
    ):
        s = await make()
        r, w = await conn(s)
        w.write(b"hello")
        print(await r.read())
        w.close()
        s.close()
        await s.wait_closed()
    p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    o, _ = await p.communicate(b"x" * 300000)
    print(len(o))


asyncio.run(main())


class H(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline()[::-1])


for cls, addr in (
    (socketserver.ThreadingTCPServer, ("127.0.0.1", 0)),
    (socketserver.ThreadingUnixStreamServer, "v.sock"),
    (socketserver.ForkingTCPServer, ("::1", 0)) if 0 else (socketserver.ForkingTCPServer, ("127.0.0.1", 0)),
):
    with cls(addr, H) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        c = socket.socket(s.address_family)
        c.connect(s.server_address)
        c.sendall(b"abc\n")
        print(c.recv(10))
        c.close()
        s.shutdown()
with socket.socket() as s:
    s.settimeout(0.2)
    s.bind(("127.0.0.1", 0))
    s.listen()
    try:
        s.accept()
    except TimeoutError:
        print("timeout")
with socket.socket() as s:
    print(s.connect_ex(("127.0.0.1", 1)))
    s.close()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b:
    a.bind(("127.0.0.1", 0))
    b.sendto(b"dg", a.getsockname())
    print(a.recvfrom(10)[0])
    print(a.recvmsg.__name__)
    a.setblocking(False)
    try:
        a.recv(1)
    except BlockingIOError:
        print("again")
for t in (socket.SOCK_SEQPACKET,):
    try:
        socket.socket(socket.AF_INET, t, 1)
        print("raw")
    except OSError as e:
        print(e.errno)
r, w = os.pipe()
f = os.open("f", os.O_RDONLY)
print(os.splice(f, w, 1000, offset_src=5), len(os.read(r, 5000)), os.sendfile(w, f, 0, 100), len(os.read(r, 1000)))
g = os.open("g", os.O_RDWR | os.O_CREAT)
print(
    os.copy_file_range(f, g, 100000), os.fstat(g).st_size, os.preadv(g, [bytearray(10)], 0, 0), os.pwritev(g, [b"abc"], 0, os.RWF_APPEND), os.fstat(g).st_size
)
s = socket.socket()
for o in ("TCP_NODELAY", "TCP_KEEPIDLE"):
    s.setsockopt(6, getattr(socket, o), 5)
    print(s.getsockopt(6, getattr(socket, o)))
s.setsockopt(1, socket.SO_RCVBUF, 5000)
print(s.getsockopt(1, socket.SO_RCVBUF), s.getsockopt(1, socket.SO_ACCEPTCONN))
