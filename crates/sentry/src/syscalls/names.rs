//! Names of the x86-64 calls that the table has no row for: they are ENOSYS, and counted by these. arch/x86/entry/syscalls/syscall_64.tbl.

const NAMES: &[(i32, &str)] = &[
    (134, "uselib"),
    (136, "ustat"),
    (139, "sysfs"),
    (156, "_sysctl"),
    (174, "create_module"),
    (177, "get_kernel_syms"),
    (178, "query_module"),
    (180, "nfsservctl"),
    (181, "getpmsg"),
    (182, "putpmsg"),
    (183, "afs_syscall"),
    (184, "tuxcall"),
    (185, "security"),
    (205, "set_thread_area"),
    (211, "get_thread_area"),
    (214, "epoll_ctl_old"),
    (215, "epoll_wait_old"),
    (216, "remap_file_pages"),
    (236, "vserver"),
    (335, "uretprobe"),
    (447, "memfd_secret"),
    (450, "set_mempolicy_home_node"),
    (451, "cachestat"),
    (453, "map_shadow_stack"),
    (457, "statmount"),
    (458, "listmount"),
    (459, "lsm_get_self_attr"),
    (460, "lsm_set_self_attr"),
    (461, "lsm_list_modules"),
    (462, "mseal"),
    (463, "setxattrat"),
    (464, "getxattrat"),
    (465, "listxattrat"),
    (466, "removexattrat"),
    (467, "open_tree_attr"),
    (468, "file_getattr"),
    (469, "file_setattr"),
];

#[must_use]
pub fn of(number: i32) -> Option<&'static str> {
    let at = NAMES
        .binary_search_by_key(&number, |(number, _)| *number)
        .ok()?;
    NAMES.get(at).map(|(_, name)| *name)
}
