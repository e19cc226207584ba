//! A static Rust program that uses threads in every way the standard library has, and files, sockets and children from them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::time::Duration;
use std::{fs, panic, thread};

thread_local!(static OWN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
static DROPPED: AtomicUsize = AtomicUsize::new(0);
struct Drops;
impl Drop for Drops {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}
thread_local!(static DROPS: Drops = const { Drops });

fn shared() {
    let (map, barrier) = (Arc::new(RwLock::new(BTreeMap::new())), Arc::new(Barrier::new(12)));
    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let (sender, receiver) = mpsc::sync_channel(4);
    let threads: Vec<_> = (0..12)
        .map(|id| {
            let (map, barrier, pair, sender) = (map.clone(), barrier.clone(), pair.clone(), sender.clone());
            thread::Builder::new().stack_size(64 << 10).spawn(move || {
                DROPS.with(|_| ());
                barrier.wait();
                for n in 0..500 {
                    OWN.set(OWN.get() + 1);
                    *map.write().unwrap().entry(n % 50).or_insert(0) += id;
                    if n % 50 == 0 {
                        sender.send(OWN.get()).unwrap();
                    }
                }
                *pair.0.lock().unwrap() += 1;
                pair.1.notify_all();
            }).unwrap()
        })
        .collect();
    drop(sender);
    let sum: usize = receiver.iter().sum();
    let mut ready = pair.0.lock().unwrap();
    while *ready < 12 {
        ready = pair.1.wait_timeout(ready, Duration::from_secs(10)).unwrap().0;
    }
    drop(ready);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let total: usize = map.read().unwrap().values().sum();
    println!("shared {sum} {total} dropped {}", DROPPED.load(Ordering::Relaxed));
}

fn parked() {
    let turns = AtomicUsize::new(0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| (0..1000).for_each(|turn| while turns.load(Ordering::Acquire) <= turn { thread::park() }));
        for _ in 0..1000 {
            turns.fetch_add(1, Ordering::Release);
            waiter.thread().unpark();
            thread::yield_now();
        }
    });
    let failed = thread::spawn(|| { panic::set_hook(Box::new(|_| ())); panic!("on purpose") }).join().is_err();
    let _ = panic::take_hook();
    println!("parked {} failed {failed}", turns.into_inner());
}

fn sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| for stream in listener.incoming().take(8) {
            let mut stream = stream.unwrap();
            scope.spawn(move || { let mut all = Vec::new(); stream.read_to_end(&mut all).unwrap(); stream.write_all(&all).unwrap(); });
        });
        let total: usize = (0..8).map(|n| scope.spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&vec![n; 100_000]).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap()
        })).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).sum();
        println!("tcp {total}");
    });
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0"));
    a.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    println!("udp {:?} {}", a.recv(&mut [0]).unwrap_err().kind(), b.is_ok());
    let (mut one, other) = UnixStream::pair().unwrap();
    writeln!(one, "local").unwrap();
    println!("{}", BufReader::new(other).lines().next().unwrap().unwrap());
}

fn children() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"by cat").unwrap();
    let output = child.wait_with_output().unwrap();
    let missing = Command::new("/nowhere").spawn().unwrap_err().kind();
    let statuses: Vec<_> = (0..8).map(|code| thread::spawn(move || Command::new("sh").args(["-c", &format!("exit {code}")]).status().unwrap().code())).collect();
    let codes: Vec<_> = statuses.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
    println!("children {} {missing:?} {codes:?}", String::from_utf8_lossy(&output.stdout));
}

fn files() {
    let place = std::env::temp_dir().join("rust");
    fs::create_dir_all(place.join("a/b")).unwrap();
    thread::scope(|scope| (0..8).for_each(|n| { let place = &place; scope.spawn(move || fs::write(place.join(format!("a/{n}")), vec![b'x'; n * 1000]).unwrap()); }));
    let size: u64 = fs::read_dir(place.join("a")).unwrap().map(|entry| entry.unwrap().metadata().unwrap()).filter(fs::Metadata::is_file).map(|it| it.len()).sum();
    fs::remove_dir_all(&place).unwrap();
    println!("files {size} {}", place.exists());
}

fn main() {
    shared();
    parked();
    sockets();
    children();
    files();
    println!("cpus {}", thread::available_parallelism().unwrap());
}
