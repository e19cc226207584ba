//! Landlock: what of the file system the process may touch, whatever its ids say.

use casemate_plan::op::Landlock;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::Error;

const NEWEST: ABI = ABI::V6;

/// Restricts this thread to the paths of the rules; missing paths are skipped.
///
/// # Errors
/// [`Error::Landlock`] if the kernel has none and `best_effort` is false.
pub fn apply(rules: &Landlock) -> Result<(), Error> {
    let status = restrict(rules).map_err(|error| Error::Landlock(error.to_string()))?;
    if status == RulesetStatus::NotEnforced && !rules.best_effort {
        return Err(Error::Landlock(
            "this kernel has none, or it is not enabled".to_owned(),
        ));
    }
    Ok(())
}

/// What an engine of ours never does, whatever its ids say: execute, make device files, connect or listen by TCP, signal processes outside,
/// or reach abstract sockets of others. What the kernel has of it: it is a wall behind others.
///
/// # Errors
/// [`Error::Landlock`].
pub fn close_engine() -> Result<(), Error> {
    let denied = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock;
    let closed = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(denied)
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(RulesetCreated::restrict_self);
    closed
        .map(drop)
        .map_err(|error| Error::Landlock(error.to_string()))
}

fn restrict(rules: &Landlock) -> Result<RulesetStatus, RulesetError> {
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    if !(rules.read_only.is_empty() && rules.read_write.is_empty()) {
        ruleset = ruleset.handle_access(AccessFs::from_all(NEWEST))?;
    }
    if rules.scoped {
        ruleset = ruleset.scope(Scope::from_all(NEWEST))?;
    }
    let mut ruleset = ruleset.create()?;
    ruleset = allow(ruleset, &rules.read_only, AccessFs::from_read(NEWEST))?;
    ruleset = allow(ruleset, &rules.read_write, AccessFs::from_all(NEWEST))?;
    Ok(ruleset.restrict_self()?.ruleset)
}

fn allow(
    mut ruleset: RulesetCreated,
    paths: &[String],
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        if let Ok(fd) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
        }
    }
    Ok(ruleset)
}
