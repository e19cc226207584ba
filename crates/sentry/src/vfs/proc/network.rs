//! /proc/net: the headings, and the loopback device. Sockets are listed where the network's own part keeps them; none are from here. proc_pid_net(5).

use super::Who;
use crate::errno::Result;
use crate::kernel::Kernel;

const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
const DATAGRAM6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
const RAW: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";

fn text(text: impl Into<String>) -> Result<Vec<u8>> {
    Ok(text.into().into_bytes())
}

/// Linux pads these lines to a fixed width, so that a reader can seek by line.
fn padded(line: &str, width: usize) -> Result<Vec<u8>> {
    text(format!("{line:<width$}\n"))
}

pub fn empty(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    Ok(Vec::new())
}

pub fn dev(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
         lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n",
    )
}

pub fn tcp(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    padded(TCP, 149)
}

pub fn tcp6(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text(TCP6)
}

pub fn udp(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    padded(UDP, 127)
}

pub fn udp6(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text(DATAGRAM6)
}

pub fn raw(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text(format!("{RAW}\n"))
}

pub fn raw6(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text(DATAGRAM6)
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

pub fn arp(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text("IP address       HW type     Flags       HW address            Mask     Device\n")
}

pub fn route(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    padded(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
        127,
    )
}

pub fn sockstat(_kernel: &Kernel, _who: Who) -> Result<Vec<u8>> {
    text(
        "sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nUDPLITE: inuse 0\n\
         RAW: inuse 0\nFRAG: inuse 0 memory 0\n",
    )
}
