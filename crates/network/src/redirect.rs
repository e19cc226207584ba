//! Frames between an interface and a tap: what comes in at one goes out at the other (tc-u32(8), tc-mirred(8)), before the namespace's own stack sees it.

use casemate_guest_protocol::network::{Interface, Network};
use rustix::io::Errno;

use crate::error::{About, Error, Result};
use crate::kernel::{
    ETH_P_ALL, INGRESS_HANDLE, NLM_CREATE, NLM_EXCLUSIVE, RTM_DELQDISC, RTM_GETQDISC,
    RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER, TC_ACT_STOLEN, TC_H_INGRESS, TC_U32_TERMINAL,
    TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_EGRESS_REDIR, TCA_KIND, TCA_MIRRED_PARMS, TCA_OPTIONS,
    TCA_U32_ACT, TCA_U32_SEL,
};
use crate::netlink::{Answer, Body, Netlink, i32_at, u32_at};
use crate::read::{Found, all_links, read};
use crate::tap::bring_up;

const HEADER: usize = 20;
/// What marks a filter as ours: its place among an interface's filters.
const PRIORITY: u32 = 0xca5e;
const U32_SELECTION: usize = 16;
/// Of struct tc_mirred: action, and behind it what is done and where to.
const ACTION_AT: usize = 8;
const ACT_AT: usize = 20;
const TARGET_AT: usize = 24;
const MIRRED: usize = 28;

/// Joins the interfaces of this thread's network namespace with the machine's taps, in this order, and tells what the guest is to be given. Without interfaces nothing
/// is done.
///
/// # Errors
/// There are more interfaces than taps; an interface is another's, or has what no guest can be given. Nothing stays of what was done.
pub fn connect(taps: &[String]) -> Result<Network> {
    let (network, indices) = read()?;
    if indices.is_empty() {
        return Ok(network);
    }
    if indices.len() > taps.len() {
        return Err(Error::new(format!(
            "the network namespace has {} interfaces, and the machine cards for {}: as many as there were, or one, when it was made",
            indices.len(),
            taps.len()
        )));
    }
    let mut netlink = Netlink::open().about("rtnetlink")?;
    let links = all_links(&mut netlink)?;
    for ((interface, index), tap) in network.interfaces.iter().zip(&indices).zip(taps) {
        if let Err(error) = join(&mut netlink, &links, *index, interface, tap) {
            release_own(&mut netlink, &links, &indices, taps);
            return Err(error);
        }
    }
    Ok(network)
}

fn join(
    netlink: &mut Netlink,
    links: &[Found],
    index: i32,
    interface: &Interface,
    tap: &str,
) -> Result<()> {
    let name = interface.name.as_str();
    let tap_index = netlink.index_of(tap).about(tap)?;
    bring_up(netlink, tap_index, interface.mtu).about(tap)?;
    make_way(netlink, links, index, name)?;
    for (from, to, called) in [(index, tap_index, name), (tap_index, index, tap)] {
        add_ingress(netlink, from).about(format!("{called}: ingress qdisc"))?;
        if let Err(errno) = redirect(netlink, from, to) {
            // The first error is the one to tell.
            let _ = remove_ingress(netlink, from);
            return Err(Error::of(
                format!("{called}: redirection of its frames"),
                errno,
            ));
        }
    }
    Ok(())
}

/// Takes away what a machine that was killed has left on an interface.
fn make_way(netlink: &mut Netlink, links: &[Found], index: i32, name: &str) -> Result<()> {
    if !has_ingress(netlink, index)? {
        return Ok(());
    }
    match target(netlink, index)? {
        Some(tap) if links.iter().any(|link| link.index == tap) => Err(Error::new(format!(
            "interface {name} is another machine's already"
        ))),
        Some(_) => remove_ingress(netlink, index).about(name),
        None => Err(Error::new(format!(
            "interface {name} has an ingress qdisc that is not ours: a guest cannot be given it"
        ))),
    }
}

/// Takes away what machines that are gone have left in this thread's network namespace.
///
/// # Errors
/// The kernel refuses.
pub fn release() -> Result<()> {
    let mut netlink = Netlink::open().about("rtnetlink")?;
    let links = all_links(&mut netlink)?;
    for link in &links {
        if has_ingress(&mut netlink, link.index)?
            && let Some(tap) = target(&mut netlink, link.index)?
            && !links.iter().any(|other| other.index == tap)
        {
            remove_ingress(&mut netlink, link.index).about(&link.name)?;
        }
    }
    Ok(())
}

/// Of a machine whose start failed, and of no other: whatever cannot be taken away stays for `release`.
fn release_own(netlink: &mut Netlink, links: &[Found], indices: &[i32], taps: &[String]) {
    for index in indices {
        if let Ok(Some(target)) = target(netlink, *index)
            && links
                .iter()
                .any(|link| link.index == target && taps.contains(&link.name))
        {
            let _ = remove_ingress(netlink, *index);
        }
    }
}

fn has_ingress(netlink: &mut Netlink, index: i32) -> Result<bool> {
    let answers = netlink
        .dump(RTM_GETQDISC, &Body::new(&[&header(index, 0, 0, 0)]))
        .about("list the qdiscs")?;
    Ok(answers.iter().any(|answer| {
        i32_at(&answer.body, 4) == Some(index) && u32_at(&answer.body, 12) == Some(TC_H_INGRESS)
    }))
}

/// Where our filter sends an interface's frames: 0 if that is gone. None: no filter of ours.
fn target(netlink: &mut Netlink, index: i32) -> Result<Option<i32>> {
    let answers = netlink
        .dump(
            RTM_GETTFILTER,
            &Body::new(&[&header(index, 0, INGRESS_HANDLE, 0)]),
        )
        .about("list the filters")?;
    let ours: Vec<&Answer> = answers
        .iter()
        .filter(|answer| {
            u32_at(&answer.body, 16).is_some_and(|information| information >> 16 == PRIORITY)
        })
        .collect();
    // The filter's own table is listed, too.
    Ok(ours
        .iter()
        .copied()
        .find_map(target_of)
        .or((!ours.is_empty()).then_some(0)))
}

fn target_of(answer: &Answer) -> Option<i32> {
    let parameters = answer
        .attributes(HEADER)
        .within(TCA_OPTIONS)?
        .within(TCA_U32_ACT)?
        .within(1)?
        .within(TCA_ACT_OPTIONS)?
        .find(TCA_MIRRED_PARMS)?;
    i32_at(parameters, TARGET_AT)
}

fn add_ingress(netlink: &mut Netlink, index: i32) -> std::result::Result<(), Errno> {
    let mut body = Body::new(&[&header(index, INGRESS_HANDLE, TC_H_INGRESS, 0)]);
    body.text(TCA_KIND, "ingress");
    netlink.change(RTM_NEWQDISC, NLM_CREATE | NLM_EXCLUSIVE, &body)
}

fn remove_ingress(netlink: &mut Netlink, index: i32) -> std::result::Result<(), Errno> {
    let body = Body::new(&[&header(index, INGRESS_HANDLE, TC_H_INGRESS, 0)]);
    match netlink.change(RTM_DELQDISC, 0, &body) {
        Err(Errno::NODEV | Errno::NOENT | Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// Every frame that comes in at `from` goes out at `to`.
fn redirect(netlink: &mut Netlink, from: i32, to: i32) -> std::result::Result<(), Errno> {
    let information = PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
    let mut body = Body::new(&[&header(from, 0, INGRESS_HANDLE, information)]);
    // struct tc_u32_sel without keys: all match.
    let mut selection = [0; U32_SELECTION];
    selection[0] = TC_U32_TERMINAL;
    let mut mirred = [0; MIRRED];
    mirred[ACTION_AT..ACTION_AT + 4].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
    mirred[ACT_AT..TARGET_AT].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
    mirred[TARGET_AT..].copy_from_slice(&to.to_ne_bytes());
    body.text(TCA_KIND, "u32").nest(TCA_OPTIONS, |options| {
        options
            .attribute(TCA_U32_SEL, &selection)
            .nest(TCA_U32_ACT, |actions| {
                actions.nest(1, |action| {
                    action
                        .text(TCA_ACT_KIND, "mirred")
                        .nest(TCA_ACT_OPTIONS, |options| {
                            options.attribute(TCA_MIRRED_PARMS, &mirred);
                        });
                });
            });
    });
    netlink.change(RTM_NEWTFILTER, NLM_CREATE | NLM_EXCLUSIVE, &body)
}

/// struct tcmsg.
fn header(index: i32, handle: u32, parent: u32, information: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    header[16..20].copy_from_slice(&information.to_ne_bytes());
    header
}
