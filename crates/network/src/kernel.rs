//! Numbers of linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, pkt_cls.h, tc_act/tc_mirred.h that libc has not, or not for each target.

pub(crate) const NLM_REQUEST: u16 = 0x1;
pub(crate) const NLM_ACK: u16 = 0x4;
pub(crate) const NLM_DUMP: u16 = 0x300;
pub(crate) const NLM_REPLACE: u16 = 0x100;
pub(crate) const NLM_EXCLUSIVE: u16 = 0x200;
pub(crate) const NLM_CREATE: u16 = 0x400;
pub(crate) const NLM_APPEND: u16 = 0x800;

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_GETROUTE: u16 = 26;
pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_GETNEIGH: u16 = 30;
pub(crate) const RTM_NEWQDISC: u16 = 36;
pub(crate) const RTM_DELQDISC: u16 = 37;
pub(crate) const RTM_GETQDISC: u16 = 38;
pub(crate) const RTM_NEWTFILTER: u16 = 44;
pub(crate) const RTM_GETTFILTER: u16 = 46;

pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;
pub(crate) const ARPHRD_ETHER: u16 = 1;
pub(crate) const IFF_UP: u32 = 0x1;
pub(crate) const IFF_LOOPBACK: u32 = 0x8;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_NET_NS_PID: u16 = 19;
pub(crate) const IFLA_AF_SPEC: u16 = 26;
pub(crate) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(crate) const ADDR_GEN_NONE: u8 = 1;

pub(crate) const IFA_ADDRESS: u16 = 1;
pub(crate) const IFA_LOCAL: u16 = 2;
pub(crate) const IFA_BROADCAST: u16 = 4;
pub(crate) const IFA_FLAGS: u16 = 8;
pub(crate) const IFA_F_NODAD: u32 = 0x02;
pub(crate) const IFA_F_PERMANENT: u32 = 0x80;
pub(crate) const IFA_F_NOPREFIXROUTE: u32 = 0x200;

pub(crate) const RTA_DST: u16 = 1;
pub(crate) const RTA_OIF: u16 = 4;
pub(crate) const RTA_GATEWAY: u16 = 5;
pub(crate) const RTA_PRIORITY: u16 = 6;
pub(crate) const RTA_PREFSRC: u16 = 7;
pub(crate) const RTA_MULTIPATH: u16 = 9;
pub(crate) const RTA_TABLE: u16 = 15;
pub(crate) const RTA_VIA: u16 = 18;
pub(crate) const RT_TABLE_MAIN: u32 = 254;
pub(crate) const RT_SCOPE_LINK: u8 = 253;
/// Made by the kernel for an address, by a redirect, or by what a router says: the guest's makes its own.
pub(crate) const OTHERS_PROTOCOLS: [u8; 3] = [1, 2, 9];
pub(crate) const RTPROT_STATIC: u8 = 4;
pub(crate) const RTN_UNICAST: u8 = 1;
/// Blackhole, unreachable, prohibit.
pub(crate) const REFUSING: [u8; 3] = [6, 7, 8];
pub(crate) const RTM_F_CLONED: u32 = 0x200;
pub(crate) const RTNH_F_ONLINK: u32 = 0x4;

pub(crate) const NDA_DST: u16 = 1;
pub(crate) const NDA_LLADDR: u16 = 2;
pub(crate) const NUD_PERMANENT: u16 = 0x80;

pub(crate) const TC_H_INGRESS: u32 = 0xffff_fff1;
pub(crate) const INGRESS_HANDLE: u32 = 0xffff_0000;
pub(crate) const TCA_KIND: u16 = 1;
pub(crate) const TCA_OPTIONS: u16 = 2;
pub(crate) const TCA_U32_SEL: u16 = 5;
pub(crate) const TCA_U32_ACT: u16 = 7;
pub(crate) const TC_U32_TERMINAL: u8 = 1;
pub(crate) const TCA_ACT_KIND: u16 = 1;
pub(crate) const TCA_ACT_OPTIONS: u16 = 2;
pub(crate) const TCA_MIRRED_PARMS: u16 = 2;
pub(crate) const TC_ACT_STOLEN: i32 = 4;
pub(crate) const TCA_EGRESS_REDIR: i32 = 1;
pub(crate) const ETH_P_ALL: u16 = 0x0003;
