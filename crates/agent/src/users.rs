//! Users by name or number, from the sandbox's own /etc/passwd and /etc/group: what they say decides only who one is inside.

use std::fs::File;
use std::io::Read;

use crate::{Answer, Refusal};

const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) name: Option<String>,
    pub(crate) home: String,
}

/// Finds "name", "uid" or "uid:gid". A number needs no entry.
pub(crate) fn find(text: &str) -> Answer<User> {
    resolve(text, &read("/etc/passwd"), &read("/etc/group"))
}

fn read(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        // Not UTF-8, unreadable: as if it had no entries.
        let _ = file.take(MAX_FILE).read_to_string(&mut text);
    }
    text
}

fn resolve(text: &str, passwd: &str, group: &str) -> Answer<User> {
    let (name, given_gid) = text
        .split_once(':')
        .map_or((text, None), |(user, group)| (user, Some(group)));
    let number: Option<u32> = name.parse().ok();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [login, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (*login == name || number == Some(uid)).then(|| User {
            uid,
            gid,
            groups: supplementary(group, login, gid),
            name: Some((*login).to_owned()),
            home: if home.starts_with('/') {
                (*home).to_owned()
            } else {
                "/".to_owned()
            },
        })
    });
    let mut user = match (entry, number) {
        (Some(user), _) => user,
        (None, Some(uid)) => User {
            uid,
            gid: uid,
            groups: Vec::new(),
            name: None,
            home: "/".to_owned(),
        },
        (None, None) => {
            return Err(Refusal::new(
                libc::EINVAL,
                format!("no user {name:?} in the sandbox"),
            ));
        }
    };
    if let Some(gid) = given_gid {
        user.gid = gid
            .parse()
            .map_err(|_| Refusal::new(libc::EINVAL, format!("group {gid:?} is not a number")))?;
    }
    Ok(user)
}

fn supplementary(group: &str, login: &str, primary: u32) -> Vec<u32> {
    let member_of = |line: &str| -> Option<u32> {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        fields
            .next()?
            .split(',')
            .any(|member| member == login)
            .then_some(gid)
    };
    group
        .lines()
        .filter_map(member_of)
        .filter(|gid| *gid != primary)
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nuser:x:1000:1000::/home/user:/bin/sh\n";
    const GROUP: &str = "root:x:0:\naudio:x:29:user,other\nuser:x:1000:user\n";

    #[test]
    fn a_name_brings_its_groups_and_home() {
        let user = resolve("user", PASSWD, GROUP).unwrap();
        assert_eq!(
            (user.uid, user.gid, user.groups, user.home.as_str()),
            (1000, 1000, vec![29], "/home/user")
        );
    }

    #[test]
    fn a_number_needs_no_entry() {
        let user = resolve("4242", PASSWD, GROUP).unwrap();
        assert_eq!((user.uid, user.gid, user.groups), (4242, 4242, vec![]));
    }

    #[test]
    fn a_group_may_be_given() {
        assert_eq!(resolve("user:7", PASSWD, GROUP).unwrap().gid, 7);
        resolve("user:x", PASSWD, GROUP).unwrap_err();
    }

    #[test]
    fn an_unknown_name_is_named() {
        assert!(
            resolve("nobody", PASSWD, GROUP)
                .unwrap_err()
                .message
                .contains("nobody")
        );
    }
}
