//! `casemate-engine`: the engines in one static executable.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

const USAGE: &str = "usage: casemate-engine init PLAN_FD CONTROL_FD";

fn main() -> ExitCode {
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
        ["--version"] => {
            report(&format!(
                "casemate-engine {} (plan version {})",
                env!("CARGO_PKG_VERSION"),
                casemate_plan::VERSION
            ));
            ExitCode::SUCCESS
        }
        ["vmm", rest @ ..] => casemate_vmm::run(rest),
        [other, ..] if ["sentry", "layers"].contains(other) => {
            fail(&format!("{other} is not in this version of the engine"))
        }
        _ => fail(USAGE),
    }
}

fn fail(message: &str) -> ExitCode {
    report(message);
    ExitCode::from(2)
}

#[expect(clippy::print_stderr, reason = "a command's own messages")]
fn report(message: &str) {
    eprintln!("{message}");
}
