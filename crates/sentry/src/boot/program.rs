//! A program that is started from outside, and how its executable is found.

use crate::control;
use crate::errno::Errno;
use crate::kernel::credentials::Credentials;
use crate::kernel::task::Limits;
use crate::kernel::{Kernel, Spawn, SpawnTask, exec};
use crate::vfs::context::FsContext;
use crate::vfs::fd_table::FdTable;
use crate::vfs::place::Place;
use crate::vfs::walk::Walker;

use super::BootError;

/// A program that is started from outside: the sandbox's first, or one of `exec`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: Option<u32>,
    /// Capability sets as bits: effective, permitted, inheritable, bounding, ambient.
    pub capabilities: [u64; 5],
    pub no_new_privs: bool,
    /// Resource limits that differ from this process's own: number, soft, hard.
    pub limits: Vec<(u32, u64, u64)>,
    /// Whether files can be given the set-id bits: not where they belong to an owner of the host's.
    pub set_id_files: bool,
    /// What /proc/PID/oom_score_adj says at first.
    pub oom_score_adj: i32,
}

/// What is executed.
#[derive(Debug)]
pub enum Executable {
    /// What the first argument names, in PATH if it has no slash.
    Named,
    Path(String),
    /// A file that is held already.
    Held(Place),
}

#[derive(Debug)]
pub struct Program {
    pub config: Config,
    pub executable: Executable,
}

impl From<Config> for Program {
    fn from(config: Config) -> Self {
        Self {
            config,
            executable: Executable::Named,
        }
    }
}

impl Kernel {
    /// Has the zygote fork for a program: found, checked and opened before this returns.
    ///
    /// # Errors
    /// There is no such program or working directory (ENOENT, EACCES, ENOEXEC, ...).
    pub fn start_program(
        &mut self,
        Program { config, executable }: Program,
        root: &Place,
        files: FdTable,
        mut limits: Limits,
        report: Option<control::Reporter>,
    ) -> Result<(), BootError> {
        for (number, soft, hard) in config.limits {
            if let Some(limit) = limits.0.get_mut(number as usize) {
                *limit = (soft, hard);
            }
        }
        let mut credentials = Credentials::new(config.uid, config.gid, config.groups);
        let [effective, permitted, inheritable, bounding, ambient] = config.capabilities;
        (
            credentials.effective,
            credentials.permitted,
            credentials.inheritable,
        ) = (effective, permitted, inheritable);
        (credentials.bounding, credentials.ambient) = (bounding, ambient);
        credentials.no_new_privs = config.no_new_privs;
        let mut context = FsContext {
            root: root.clone(),
            cwd: root.clone(),
            umask: config.umask.unwrap_or(0o022),
        };
        let walker = Walker {
            kernel: self,
            tid: 0,
            credentials: &credentials,
            context: &context,
            trail: None,
        };
        let cwd = walker
            .resolve(root, config.cwd.as_bytes(), true)
            .map_err(|errno| BootError::new(&format!("working directory {}", config.cwd), errno))?;
        context.cwd = cwd;
        let name = config.args.first().cloned().unwrap_or_default();
        let environment: Vec<Vec<u8>> = config.env.into_iter().map(String::into_bytes).collect();
        let arguments = config.args.into_iter().map(String::into_bytes).collect();
        let walker = Walker {
            kernel: self,
            tid: 0,
            credentials: &credentials,
            context: &context,
            trail: None,
        };
        let image = match executable {
            Executable::Held(place) => {
                exec::prepare(&walker, place, name.as_bytes(), arguments, environment)
            }
            Executable::Path(path) => walker
                .resolve(&walker.context.cwd, path.as_bytes(), true)
                .and_then(|place| {
                    exec::prepare(&walker, place, path.as_bytes(), arguments, environment)
                }),
            Executable::Named => find_program(&walker, &name, arguments, environment),
        };
        let image = image.map_err(|errno| {
            let what = format!("exec: {name:?}");
            match errno {
                // As engines look for it.
                Errno::ENOENT if !name.contains('/') => BootError {
                    errno: errno.0,
                    message: format!("{what}: executable file not found in $PATH"),
                },
                errno => BootError::new(&what, errno),
            }
        })?;
        self.spawns.push_back(Spawn {
            image: Box::new(image),
            task: SpawnTask {
                credentials,
                files,
                fs: context,
                limits,
                report,
                oom_score_adj: config.oom_score_adj,
            },
        });
        self.spawn_next();
        Ok(())
    }
}

/// Looks a name without a slash up in the environment's PATH, as the shell does.
fn find_program(
    walker: &Walker<'_>,
    name: &str,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> crate::errno::Result<exec::Image> {
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.to_owned()]
    } else {
        let path = environment
            .iter()
            .find_map(|entry| entry.strip_prefix(b"PATH="));
        let path = path.map_or_else(
            || "/usr/local/bin:/usr/bin:/bin".to_owned(),
            |path| String::from_utf8_lossy(path).into_owned(),
        );
        path.split(':')
            .filter(|directory| !directory.is_empty())
            .map(|directory| format!("{directory}/{name}"))
            .collect()
    };
    let mut failure = Errno::ENOENT;
    for candidate in candidates {
        let place = match walker.resolve(&walker.context.cwd, candidate.as_bytes(), true) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(errno) => {
                failure = errno;
                continue;
            }
        };
        match exec::prepare(
            walker,
            place,
            candidate.as_bytes(),
            arguments.clone(),
            environment.clone(),
        ) {
            Ok(image) => return Ok(image),
            Err(errno) => failure = errno,
        }
    }
    Err(failure)
}
