//! Which options of sockets reach the host, by level: the sentry's check and the jail's are of the same lists.

/// Each level: what may be set and read, and what only tells.
macro_rules! options {
    ($($level:expr => [$($both:expr),* $(,)?], [$($told:expr),* $(,)?];)*) => {
        /// Options that may be set.
        pub const SETTABLE: &[(i32, &[i32])] = &[$(($level, &[$($both),*])),*];
        /// Options that may be read: those, and some that only tell.
        pub const READABLE: &[(i32, &[i32])] = &[$(($level, &[$($both,)* $($told),*])),*];
    };
}

options! {
    libc::SOL_SOCKET => [
        libc::SO_REUSEADDR,
        libc::SO_REUSEPORT,
        libc::SO_KEEPALIVE,
        libc::SO_BROADCAST,
        libc::SO_LINGER,
        libc::SO_SNDBUF,
        libc::SO_RCVBUF,
        libc::SO_OOBINLINE,
        libc::SO_DONTROUTE,
        libc::SO_RCVLOWAT,
        libc::SO_PRIORITY,
        libc::SO_NO_CHECK,
        libc::SO_TIMESTAMP,
        libc::SO_TIMESTAMPNS,
        libc::SO_PEEK_OFF,
    ], [
        libc::SO_TYPE,
        libc::SO_DOMAIN,
        libc::SO_PROTOCOL,
        libc::SO_ERROR,
        libc::SO_ACCEPTCONN,
        libc::SO_SNDLOWAT,
        libc::SO_INCOMING_CPU,
        libc::SO_COOKIE,
    ];
    libc::IPPROTO_TCP => [
        libc::TCP_NODELAY,
        libc::TCP_MAXSEG,
        libc::TCP_CORK,
        libc::TCP_KEEPIDLE,
        libc::TCP_KEEPINTVL,
        libc::TCP_KEEPCNT,
        libc::TCP_SYNCNT,
        libc::TCP_LINGER2,
        libc::TCP_DEFER_ACCEPT,
        libc::TCP_WINDOW_CLAMP,
        libc::TCP_QUICKACK,
        libc::TCP_CONGESTION,
        libc::TCP_USER_TIMEOUT,
        libc::TCP_FASTOPEN,
        libc::TCP_FASTOPEN_CONNECT,
        libc::TCP_NOTSENT_LOWAT,
    ], [libc::TCP_INFO];
    libc::IPPROTO_IP => [
        libc::IP_TOS,
        libc::IP_TTL,
        libc::IP_RECVTOS,
        libc::IP_RECVTTL,
        libc::IP_PKTINFO,
        libc::IP_RECVERR,
        libc::IP_MTU_DISCOVER,
        libc::IP_MULTICAST_TTL,
        libc::IP_MULTICAST_LOOP,
        libc::IP_MULTICAST_IF,
        libc::IP_ADD_MEMBERSHIP,
        libc::IP_DROP_MEMBERSHIP,
        libc::IP_BIND_ADDRESS_NO_PORT,
    ], [libc::IP_MTU];
    libc::IPPROTO_IPV6 => [
        libc::IPV6_V6ONLY,
        libc::IPV6_UNICAST_HOPS,
        libc::IPV6_MULTICAST_HOPS,
        libc::IPV6_MULTICAST_LOOP,
        libc::IPV6_MULTICAST_IF,
        libc::IPV6_ADD_MEMBERSHIP,
        libc::IPV6_DROP_MEMBERSHIP,
        libc::IPV6_RECVPKTINFO,
        libc::IPV6_RECVHOPLIMIT,
        libc::IPV6_RECVERR,
        libc::IPV6_RECVTCLASS,
        libc::IPV6_TCLASS,
        libc::IPV6_MTU_DISCOVER,
        libc::IPV6_ADDR_PREFERENCES,
    ], [libc::IPV6_MTU];
    // UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV.
    libc::IPPROTO_UDPLITE => [10, 11], [];
    // NETLINK_PKTINFO, CAP_ACK, EXT_ACK, GET_STRICT_CHK.
    libc::SOL_NETLINK => [3, 10, 11, 12], [];
}
