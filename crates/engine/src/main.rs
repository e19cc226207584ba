//! `casemate-engine`: the engines in one static executable.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: casemate_host::allocator::Allocator = casemate_host::allocator::Allocator;

const USAGE: &str = "usage: casemate-engine init [--protect] PLAN_FD CONTROL_FD";

/// The name by which a guest's kernel executes this file: what words it adds (those of its command line that it does not know) means nothing.
const GUEST_AGENT: &str = "/casemate-agent";

fn main() -> ExitCode {
    if env::args_os()
        .next()
        .is_some_and(|name| name == GUEST_AGENT)
    {
        return ExitCode::from(casemate_guest_agent::run());
    }
    let arguments: Vec<String> = env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["init", plan, control] => match (plan.parse(), control.parse()) {
            (Ok(plan), Ok(control)) => ExitCode::from(casemate_init::run(plan, control)),
            _ => fail(USAGE),
        },
        ["init", "--protect", plan, control] => match (plan.parse(), control.parse()) {
            (Ok(plan), Ok(control)) => ExitCode::from(casemate_init::run_protected(plan, control)),
            _ => fail(USAGE),
        },
        ["agent", socket] => socket.parse().map_or_else(|_| fail(USAGE), agent),
        ["--version"] => {
            report(&format!(
                "casemate-engine {} (plan version {})",
                env!("CARGO_PKG_VERSION"),
                casemate_plan::VERSION
            ));
            ExitCode::SUCCESS
        }
        ["vmm", rest @ ..] => casemate_vmm::run(rest),
        ["jailer", rest @ ..] => casemate_vmm::run_jailed(rest),
        [other, ..] if ["sentry", "layers"].contains(other) => {
            fail(&format!("{other} is not in this version of the engine"))
        }
        _ => fail(USAGE),
    }
}

/// The agent as a program of a sentry's sandbox, which gives it the socket.
fn agent(socket: i32) -> ExitCode {
    // Nothing of it may be read by a program of its own user.
    let served = casemate_host::ids::set_dumpable(false)
        .and_then(|()| casemate_host::process::take_fd(socket))
        .and_then(casemate_agent::serve);
    ExitCode::from(u8::from(served.is_err()))
}

fn fail(message: &str) -> ExitCode {
    report(message);
    ExitCode::from(2)
}

#[expect(clippy::print_stderr, reason = "a command's own messages")]
fn report(message: &str) {
    eprintln!("{message}");
}
