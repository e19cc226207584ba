//! One function per operation; the dispatcher is the table of docs/design/plan.md.

mod device;
mod exec;
mod hook;
mod identity;
mod machine;
mod mask;
pub(crate) mod mount;
mod mount_flags;
mod mount_idmap;
mod network;
pub(crate) mod pivot;
mod pty;
mod sentry;
mod sentry_client;
mod sentry_exec;
mod sentry_join;
mod start;
mod system;
mod tmpcopyup;

use casemate_plan::Op;

use crate::child::State;
use crate::error::Result;

pub(crate) fn run(op: Op, state: &mut State) -> Result<()> {
    match op {
        Op::Unshare { kinds } => system::unshare(&kinds),
        Op::TimeOffsets {
            monotonic,
            boottime,
        } => system::time_offsets(monotonic, boottime),
        Op::BecomeRoot {} => identity::become_root(),
        Op::Dumpable { value } => identity::dumpable(value),
        Op::ParentDeathSignal { signal } => identity::parent_death_signal(signal),
        Op::Barrier { name } => start::barrier(&name, state),
        Op::Propagation { flags } | Op::RootPropagation { flags } => pivot::propagation(flags),
        Op::Root {
            path, shared: true, ..
        } => pivot::shared_root(&path, state),
        Op::Root { path, overlay, .. } => pivot::root(&path, overlay.as_ref(), state),
        Op::Mount(mount) => mount::mount(&mount, state),
        Op::Symlink {
            target,
            path,
            replace,
        } => device::symlink(&target, &path, replace, state),
        Op::Device(device) => device::device(&device, state),
        Op::JoinedRoot {} => pivot::joined_root(state),
        Op::ConsoleDevice {} => pty::console_device(state),
        Op::Pty { columns, rows } => pty::pty(columns, rows, state),
        Op::LoopbackUp {} => system::loopback_up(),
        Op::Hook(hook) => hook::hook(&hook),
        Op::PivotRoot { mode } => pivot::pivot_root(mode, state),
        Op::ReadonlyRoot {} => pivot::readonly_root(state),
        Op::MaskPath { path } => mask::mask_path(&path, state),
        Op::ReadonlyPath { path } => mask::readonly_path(&path, state),
        Op::Sysctl { key, value } => system::sysctl(&key, &value),
        Op::Hostname { value } => system::hostname(&value),
        Op::Domainname { value } => system::domainname(&value),
        Op::Setsid {} => system::setsid(),
        Op::Keyring { name } => system::keyring(&name),
        Op::Rlimit { kind, soft, hard } => system::rlimit(&kind, soft, hard),
        Op::Scheduler(scheduler) => system::scheduler(&scheduler),
        Op::IoPriority { class, priority } => system::io_priority(class, priority),
        Op::CpuAffinity { cpus } => system::cpu_affinity(&cpus),
        Op::MemoryPolicy { mode, flags, nodes } => system::memory_policy(mode, flags, &nodes),
        Op::Personality { persona } => system::personality(persona),
        Op::Apparmor { label } => {
            identity::security_label("apparmor/exec", "exec", &format!("exec {label}"))
        }
        Op::Selinux { label } => identity::security_label("exec", "exec", &label),
        Op::NoNewPrivs {} => identity::no_new_privs(),
        Op::Landlock(landlock) => identity::landlock(&landlock),
        Op::Credentials(credentials) => identity::credentials(&credentials),
        Op::Chdir { path, create } => exec::chdir(&path, create, state),
        Op::AwaitStart {} => start::await_start(state),
        Op::Seccomp {
            profile,
            listener,
            log,
        } => identity::seccomp(profile.is_some(), listener, log, state),
        Op::Exec(exec) => exec::exec(&exec, state),
        Op::CheckExec(exec) => exec::check_exec(&exec, state),
        Op::Agent {} => start::agent(state),
        Op::Zygote { uid, gid, rlimits } => sentry::zygote(uid, gid, &rlimits, state),
        Op::Sentry(sentry) => sentry::sentry(*sentry, state),
        Op::SentryJoin { control, program } => sentry_join::sentry_join(control, *program, state),
        Op::SentryExec {
            control,
            terminal,
            program,
        } => sentry_exec::sentry_exec(control, terminal, *program, state),
        Op::Nest { path, at } => pivot::nest(&path, &at, state),
        Op::Machine(machine) => machine::machine(*machine, state),
        Op::MachineJoin(join) => machine::machine_join(*join, state),
        Op::MachineExec {
            control,
            terminal,
            plan,
        } => machine::machine_exec(control, terminal, plan, state),
        Op::Taps { header } => network::taps(header, state),
        Op::MachineNetwork { control, taps } => network::machine_network(control, &taps),
        Op::NetworkRelease {} => network::network_release(),
    }
}

/// The operation's name as the plan spells it.
pub(crate) fn name(op: &Op) -> &'static str {
    match op {
        Op::Unshare { .. } => "unshare",
        Op::TimeOffsets { .. } => "time_offsets",
        Op::BecomeRoot {} => "become_root",
        Op::Dumpable { .. } => "dumpable",
        Op::ParentDeathSignal { .. } => "parent_death_signal",
        Op::Barrier { .. } => "barrier",
        Op::Propagation { .. } => "propagation",
        Op::Root { .. } => "root",
        Op::Mount(_) => "mount",
        Op::Symlink { .. } => "symlink",
        Op::Device(_) => "device",
        Op::JoinedRoot {} => "joined_root",
        Op::ConsoleDevice {} => "console_device",
        Op::Pty { .. } => "pty",
        Op::LoopbackUp {} => "loopback_up",
        Op::Hook(_) => "hook",
        Op::PivotRoot { .. } => "pivot_root",
        Op::RootPropagation { .. } => "root_propagation",
        Op::ReadonlyRoot {} => "readonly_root",
        Op::MaskPath { .. } => "mask_path",
        Op::ReadonlyPath { .. } => "readonly_path",
        Op::Sysctl { .. } => "sysctl",
        Op::Hostname { .. } => "hostname",
        Op::Domainname { .. } => "domainname",
        Op::Setsid {} => "setsid",
        Op::Keyring { .. } => "keyring",
        Op::Rlimit { .. } => "rlimit",
        Op::Scheduler(_) => "scheduler",
        Op::IoPriority { .. } => "io_priority",
        Op::CpuAffinity { .. } => "cpu_affinity",
        Op::MemoryPolicy { .. } => "memory_policy",
        Op::Personality { .. } => "personality",
        Op::Apparmor { .. } => "apparmor",
        Op::Selinux { .. } => "selinux",
        Op::NoNewPrivs {} => "no_new_privs",
        Op::Landlock(_) => "landlock",
        Op::Credentials(_) => "credentials",
        Op::Chdir { .. } => "chdir",
        Op::AwaitStart {} => "await_start",
        Op::Seccomp { .. } => "seccomp",
        Op::Exec(_) => "exec",
        Op::CheckExec(_) => "check_exec",
        Op::Agent {} => "agent",
        Op::Zygote { .. } => "zygote",
        Op::Sentry(_) => "sentry",
        Op::SentryJoin { .. } => "sentry_join",
        Op::SentryExec { .. } => "sentry_exec",
        Op::Nest { .. } => "nest",
        Op::Machine(_) => "machine",
        Op::MachineJoin(_) => "machine_join",
        Op::MachineExec { .. } => "machine_exec",
        Op::Taps { .. } => "taps",
        Op::MachineNetwork { .. } => "machine_network",
        Op::NetworkRelease {} => "network_release",
    }
}
