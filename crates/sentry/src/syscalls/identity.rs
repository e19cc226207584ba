//! Who the caller is.

use super::{Cx, SysResult, value};

pub fn getpid(cx: &mut Cx<'_>) -> SysResult {
    value(cx.task()?.pid)
}

pub fn gettid(cx: &mut Cx<'_>) -> SysResult {
    value(cx.task()?.tid)
}

pub fn getppid(cx: &mut Cx<'_>) -> SysResult {
    value(cx.process()?.parent)
}

pub fn getuid(cx: &mut Cx<'_>) -> SysResult {
    value(cx.task()?.credentials.uid)
}

pub fn geteuid(cx: &mut Cx<'_>) -> SysResult {
    value(cx.task()?.credentials.euid)
}

pub fn getgid(cx: &mut Cx<'_>) -> SysResult {
    value(cx.task()?.credentials.gid)
}

pub fn getegid(cx: &mut Cx<'_>) -> SysResult {
    value(cx.task()?.credentials.egid)
}
