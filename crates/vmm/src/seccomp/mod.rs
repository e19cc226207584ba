//! The filters of the monitor's threads: a few dozen calls each, by number and argument, instead of the kernel's whole surface.
//!
//! There are two: the loop's, which serves the API and makes, saves and forks machines (Firecracker's threads `api` and `vmm` in one), and
//! a virtual CPU's. The loop's is closed before anything of a client's is read; a CPU's thread adds its own before its guest runs. What is
//! refused ends the monitor, with its number told.
mod file;
mod programs;
mod rule;
mod rules;

use std::path::Path;
use std::sync::Arc;

use casemate_host::seccomp::Instruction;
use casemate_jail::seccomp::{Filter, compile};
use serde_json::{Value, json};

use rule::Rule;
#[cfg(not(target_env = "musl"))]
use rules::glibc as library;
#[cfg(target_env = "musl")]
use rules::musl as library;
use rules::{LOOP, VCPU};

/// The compiled filters; empty where the user wants none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    looping: Option<Program>,
    vcpu: Option<Program>,
}

/// Instructions for the kernel.
#[derive(Clone, Debug)]
enum Program {
    /// Compiled with the monitor: compiling at each start took 0.3 ms, and the tables of names 0.7 MiB of memory.
    Own(&'static [Instruction]),
    Users(Arc<Filter>),
}

impl Filters {
    /// This monitor's own.
    pub(crate) fn own() -> Filters {
        Filters {
            looping: Some(Program::Own(programs::LOOP)),
            vcpu: Some(Program::Own(programs::VCPU)),
        }
    }

    /// A user's: Firecracker's JSON.
    pub(crate) fn read(path: &Path) -> Result<Filters, String> {
        let fault = |reason: String| format!("--seccomp-filter {}: {reason}", path.display());
        let text = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
        compiled(&text).map_err(fault)
    }

    /// Closes the calling thread, and all that it starts from now on.
    pub(crate) fn close_loop(&self) -> Result<(), String> {
        install(self.looping.as_ref())
    }

    /// Closes the calling thread further.
    pub(crate) fn close_vcpu(&self) -> Result<(), String> {
        install(self.vcpu.as_ref())
    }
}

/// A user's filters from their JSON.
pub(crate) fn compiled(text: &[u8]) -> Result<Filters, String> {
    let profiles = file::parse(text)?;
    let compiled = |profile| {
        let filter = compile(profile).map_err(|error| error.to_string())?;
        Ok::<_, String>(Program::Users(Arc::new(filter)))
    };
    Ok(Filters {
        looping: Some(compiled(&profiles.looping)?),
        vcpu: Some(compiled(&profiles.vcpu)?),
    })
}

fn install(program: Option<&Program>) -> Result<(), String> {
    let installed = match program {
        None => return Ok(()),
        Some(Program::Own(instructions)) => {
            casemate_host::seccomp::install(instructions, 0).map_err(|error| error.to_string())
        }
        Some(Program::Users(filter)) => filter
            .install(false, false)
            .map_err(|error| error.to_string()),
    };
    installed.map(drop)
}

/// This monitor's own filters as [`Filters::read`] takes them, to start from.
pub(crate) fn print() -> String {
    let vcpu = || VCPU.iter().chain(library::VCPU);
    let looping = vcpu().chain(LOOP).chain(library::LOOP);
    let own = json!({ "vmm": shown(looping), "vcpu": shown(vcpu()) });
    format!("{own:#}")
}

fn shown<'a>(rules: impl Iterator<Item = &'a Rule>) -> Value {
    let refused = json!({ "syscall": "clone3", "comment": "its flags cannot be checked; the C library takes clone(2)" });
    json!({
        "default_action": "trap",
        "filter_action": "allow",
        "filter": rules.map(shown_rule).collect::<Vec<_>>(),
        "absent": [refused],
    })
}

fn shown_rule(rule: &Rule) -> Value {
    let args: Vec<Value> = rule
        .checks
        .iter()
        .flatten()
        .map(|check| {
            let (kind, op) = match check.mask {
                0xffff_ffff => ("dword", json!("eq")),
                mask => ("qword", json!({ "masked_eq": mask })),
            };
            json!({ "index": check.argument, "type": kind, "op": op, "val": check.value })
        })
        .collect();
    let mut shown = json!({ "syscall": rule.call, "comment": rule.why });
    if !args.is_empty() {
        shown["args"] = json!(args);
    }
    if let Some(reason) = rule.unseen {
        shown["untested"] = json!(reason);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would lead out of the jail, or to another process.
    const NEVER: &[&str] = &[
        "execve",
        "execveat",
        "clone3",
        "fork",
        "vfork",
        "ptrace",
        "setns",
        "unshare",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "bpf",
        "keyctl",
        "perf_event_open",
        "kill",
        "setuid",
        "setresuid",
        "capset",
        "process_vm_readv",
        "process_vm_writev",
        "pidfd_getfd",
        "mknodat",
        "rt_sigaction",
        "init_module",
        "open_by_handle_at",
        "personality",
    ];

    /// A virtual CPU's, with those of a library.
    fn vcpu(library: &'static [Rule]) -> impl Iterator<Item = &'static Rule> {
        VCPU.iter().chain(library)
    }

    fn glibc() -> impl Iterator<Item = &'static Rule> {
        vcpu(rules::glibc::VCPU)
            .chain(LOOP)
            .chain(rules::glibc::LOOP)
    }

    fn musl() -> impl Iterator<Item = &'static Rule> {
        vcpu(rules::musl::VCPU).chain(LOOP).chain(rules::musl::LOOP)
    }

    #[test]
    fn nothing_that_starts_joins_or_mounts_is_allowed() {
        assert!(glibc().all(|rule| !NEVER.contains(&rule.call)));
        // musl's fork(3) is fork(2); glibc's is clone(2) with its flags.
        let mut but_forks = musl().filter(|rule| rule.call != "fork");
        assert!(but_forks.all(|rule| !NEVER.contains(&rule.call)));
        assert!(vcpu(rules::musl::VCPU).all(|rule| rule.call != "fork"));
    }

    #[test]
    fn each_rule_stands_once() {
        let key = |rule: &Rule| {
            let checks = rule.checks.iter().flatten();
            let checks: Vec<_> = checks.map(|c| (c.argument, c.mask, c.value)).collect();
            (rule.call, checks)
        };
        for rules in [glibc().collect::<Vec<_>>(), musl().collect()] {
            let mut keys: Vec<_> = rules.into_iter().map(key).collect();
            let count = keys.len();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), count);
        }
    }

    #[test]
    fn ioctl_is_never_open() {
        let mut all = glibc().chain(musl());
        assert!(all.all(|rule| rule.call != "ioctl" || rule.checks[0].is_some()));
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let read = file::parse(print().as_bytes()).expect("it is this monitor's own form");
        let again = compile(&read.vcpu).expect("it compiles");
        assert_eq!(again.instructions(), programs::VCPU);
    }

    const GLIBC: &str = "not(target_env = \"musl\")";
    const MUSL: &str = "target_env = \"musl\"";

    /// The text of `programs.rs`. `make gen` writes it.
    fn text() -> String {
        use std::fmt::Write;
        let mut text = "//! The rules as instructions: generated from `rules.rs` by `make gen`.\nuse casemate_host::seccomp::Instruction;\n\n\
            const fn i(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {\n    Instruction { code, jt, jf, k }\n}\n"
            .to_owned();
        let programs = [
            (GLIBC, "VCPU", compiled(&mut vcpu(rules::glibc::VCPU))),
            (GLIBC, "LOOP", compiled(&mut glibc())),
            (MUSL, "VCPU", compiled(&mut vcpu(rules::musl::VCPU))),
            (MUSL, "LOOP", compiled(&mut musl())),
        ];
        for (which, name, filter) in programs {
            let _ = write!(
                text,
                "\n#[cfg({which})]\n#[rustfmt::skip]\npub(super) const {name}: &[Instruction] = &[\n"
            );
            for line in filter.instructions().chunks(6) {
                let words = line.iter().map(|one| {
                    format!("i({:#x}, {}, {}, {:#x}),", one.code, one.jt, one.jf, one.k)
                });
                let _ = writeln!(text, "    {}", words.collect::<Vec<_>>().join(" "));
            }
            text.push_str("];\n");
        }
        text
    }

    fn compiled(rules: &mut dyn Iterator<Item = &Rule>) -> Filter {
        compile(&rule::profile(rules)).expect("the rules are right")
    }

    #[test]
    fn programs_are_what_the_rules_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/seccomp/programs.rs");
        if std::env::var_os("CASEMATE_GENERATE").is_some() {
            std::fs::write(path, text()).expect("the source can be written");
            return;
        }
        let kept = std::fs::read_to_string(path).expect("it is there");
        assert!(kept == text(), "stale: run `make gen`");
    }
}
