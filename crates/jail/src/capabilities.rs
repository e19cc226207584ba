//! Capability names and numbers (include/uapi/linux/capability.h).

use crate::Error;

const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The set of these names (`CAP_X`) as a bit mask.
///
/// # Errors
/// [`Error::UnknownCapability`].
pub fn mask(names: &[String]) -> Result<u64, Error> {
    names
        .iter()
        .try_fold(0, |mask, name| Ok(mask | 1 << number(name)?))
}

fn number(name: &str) -> Result<u32, Error> {
    let bare = name.strip_prefix("CAP_").unwrap_or(name);
    let found = NAMES
        .iter()
        .position(|known| *known == bare)
        .and_then(|index| u32::try_from(index).ok());
    found.ok_or_else(|| Error::UnknownCapability(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_their_kernel_numbers() {
        let names = ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"].map(String::from);
        assert_eq!(mask(&names).unwrap(), 1 | 1 << 21 | 1 << 40);
    }

    #[test]
    fn each_name_is_a_bit_and_all_are_every_bit() {
        let all = NAMES.map(|name| format!("CAP_{name}"));
        assert_eq!(mask(&all).unwrap(), (1 << 41) - 1);
        let bits: Vec<u32> = all
            .iter()
            .map(|name| mask(std::slice::from_ref(name)).unwrap().trailing_zeros())
            .collect();
        assert_eq!(bits, (0..41).collect::<Vec<u32>>());
    }

    #[test]
    fn no_names_are_no_bits_and_a_name_twice_is_one() {
        assert_eq!(mask(&[]).unwrap(), 0);
        let twice = ["CAP_KILL", "KILL"].map(String::from);
        assert_eq!(mask(&twice).unwrap(), 1 << 5);
    }

    #[test]
    fn unknown_name_is_named() {
        assert_eq!(
            mask(&["CAP_FLY".to_owned()]).unwrap_err().to_string(),
            r#"unknown capability "CAP_FLY""#
        );
    }
}
