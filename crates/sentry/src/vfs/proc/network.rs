//! /proc/net: what the host says of the container's network namespace, which the sentry is in; the sentry's own for what the host has no part in.
//! proc_pid_net(5).

use super::Who;
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::kernel::machine::read_below;

const MOST: usize = 4 << 20;

const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
const DATAGRAM6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
const RAW: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";

fn text(text: impl Into<String>) -> Result<Vec<u8>> {
    Ok(text.into().into_bytes())
}

fn of_host(kernel: &Kernel, name: &str, otherwise: Result<Vec<u8>>) -> Result<Vec<u8>> {
    match read_below(&kernel.host_proc, &format!("self/net/{name}"), MOST) {
        Some(bytes) => Ok(bytes),
        None => otherwise,
    }
}

/// Linux pads these lines to a fixed width, so that a reader can seek by line.
fn padded(line: &str, width: usize) -> Result<Vec<u8>> {
    text(format!("{line:<width$}\n"))
}

pub fn empty(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    Ok(Vec::new())
}

pub fn dev(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = text(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
         lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n",
    );
    of_host(kernel, "dev", otherwise)
}

pub fn tcp(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = padded(TCP, 149);
    of_host(kernel, "tcp", otherwise)
}

pub fn tcp6(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = text(TCP6);
    of_host(kernel, "tcp6", otherwise)
}

pub fn udp(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = padded(UDP, 127);
    of_host(kernel, "udp", otherwise)
}

pub fn udp6(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = text(DATAGRAM6);
    of_host(kernel, "udp6", otherwise)
}

pub fn raw(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = text(format!("{RAW}\n"));
    of_host(kernel, "raw", otherwise)
}

pub fn raw6(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = text(DATAGRAM6);
    of_host(kernel, "raw6", otherwise)
}

pub fn unix(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text("Num       RefCount Protocol Flags    Type St Inode Path\n")
}

pub fn netlink(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text(
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n",
    )
}

pub fn packet(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text("sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n")
}

pub fn arp(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise =
        text("IP address       HW type     Flags       HW address            Mask     Device\n");
    of_host(kernel, "arp", otherwise)
}

pub fn route(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = padded(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
        127,
    );
    of_host(kernel, "route", otherwise)
}

pub fn sockstat(kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    let otherwise = text(
        "sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nUDPLITE: inuse 0\n\
         RAW: inuse 0\nFRAG: inuse 0 memory 0\n",
    );
    of_host(kernel, "sockstat", otherwise)
}
