//! What landlock takes away from an engine, on a thread of its own: it is never given back.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

fn has_landlock() -> bool {
    std::fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| list.contains("landlock"))
}

#[test]
fn an_engine_neither_executes_nor_speaks_tcp_nor_reaches_abstract_sockets() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    if !has_landlock() {
        return;
    }
    let name = SocketAddr::from_abstract_name(format!("casemate-{}", std::process::id()));
    let name = name.expect("it is short");
    let _outside = UnixListener::bind_addr(&name).expect("nobody else has it");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = tcp.local_addr().expect("it is bound");
    let kinds = thread::spawn(move || {
        casemate_jail::landlock::close_engine().expect("the kernel has landlock");
        [
            Command::new("/bin/true").spawn().map(drop),
            TcpStream::connect(address).map(drop),
            TcpListener::bind("127.0.0.1:0").map(drop),
            UnixStream::connect_addr(&name).map(drop),
        ]
        .map(|result| result.map_err(|error| error.kind()))
    });
    let kinds = kinds.join().expect("it does not panic");
    assert_eq!(kinds, [Err(ErrorKind::PermissionDenied); 4]);
    assert!(TcpStream::connect(address).is_ok(), "only that thread");
}
