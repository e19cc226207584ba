//! `casemate`, the command: starts the Python beside it without the `site` module.
//!
//! A console script as pip writes them imports `site`, which costs 2 to 20 ms, as much as a whole OCI verb; `-I -S` skip that, and then somebody has
//! to name the package's directory. A script's `#!` line cannot, so this is a program.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Reads the cache of modules (src/casemate/lean_cache.py), runs the command, and makes the cache anew where it was missing or stale. An editable install has no
/// directory to name: `site` finds it. Cycles are not collected (0.7 ms, and a verb makes next to none). The end skips the interpreter's tear-down (1 ms): nothing of it is needed by a process that ends.
const PROGRAM: &str = "\
import sys, gc
if sys.path and not sys.path[0]:
    del sys.path[0]
gc.disable()
directory = sys.argv.pop(1)
if directory:
    # Last: a search of the standard library's modules need not list it.
    sys.path.append(directory)
else:
    import site
    site.main()
def load():
    package = directory + '/casemate'
    import marshal, posix
    try:
        fd = posix.open(f'{package}/__pycache__/lean.{sys.implementation.cache_tag}.bin', posix.O_RDONLY | posix.O_CLOEXEC)
        head = posix.read(fd, 12)
        if head[:4] == b'LEAN':
            length = int.from_bytes(head[4:], 'little')
            code, entries = marshal.loads(posix.read(fd, length))
            names = {'__name__': 'casemate.lean_cache'}
            exec(code, names)
            return names['install'](package, fd, 12 + length, entries)
    except Exception:
        pass
    from casemate import lean_cache
    return lean_cache.Finder(package, -1, 0, {}, True)
finder = load() if directory else None
from casemate.cli.main import main
code = main()
try:
    sys.stdout.flush()
    sys.stderr.flush()
except OSError:
    pass
if finder and finder.is_stale:
    from casemate import lean_cache
    lean_cache.build(finder.package)
import posix
posix._exit(code)
";

fn main() -> ExitCode {
    match run() {
        Ok(never) => match never {},
        Err(message) => {
            report(&message);
            ExitCode::from(127)
        }
    }
}

fn run() -> Result<std::convert::Infallible, String> {
    let own = env::current_exe()
        .map_err(|error| format!("cannot find this program's own path: {error}"))?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let (python, package, is_environment) = match find_python(directory) {
        Some(python) => {
            let package = find_package(directory, &python);
            (python, package, true)
        }
        None => {
            let (python, package) = find_shared(directory)
                .ok_or_else(|| format!("no python3 beside {}", own.display()))?;
            (python, Some(package), false)
        }
    };
    let mut command = Command::new(&python);
    // Beside an environment's interpreter, what the package needs lies beside the package. Elsewhere (`pip install --user`) only `site` knows where.
    command.args(if is_environment {
        &["-I", "-S", "-c"][..]
    } else {
        &["-c"]
    });
    command.arg(PROGRAM);
    command.arg(package.map_or_else(OsString::new, PathBuf::into_os_string));
    command.args(env::args_os().skip(1));
    let error = command.exec();
    Err(format!("cannot run {}: {error}", python.display()))
}

fn find_python(directory: &Path) -> Option<PathBuf> {
    ["python3", "python"]
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.exists())
}

/// `lib/pythonX.Y/site-packages` below the prefix, if the package lies there; X.Y of the interpreter, whose link names it.
fn find_package(directory: &Path, python: &Path) -> Option<PathBuf> {
    let lib = directory.parent()?.join("lib");
    let interpreter = python.canonicalize().ok()?;
    let name = interpreter.file_name()?.to_str()?;
    let mut candidates = vec![lib.join(name)];
    if let Ok(entries) = lib.read_dir() {
        candidates.extend(entries.flatten().map(|entry| entry.path()));
    }
    candidates
        .into_iter()
        .flat_map(|base| [base.join("site-packages"), base.join("dist-packages")])
        .find(|path| path.join("casemate/__init__.py").exists())
}

/// For an installation without an interpreter of its own (`pip install --user`): `lib/pythonX.Y/site-packages` below the prefix has the package, and
/// pythonX.Y is found by PATH.
fn find_shared(directory: &Path) -> Option<(PathBuf, PathBuf)> {
    let search = env::var_os("PATH")?;
    let entries = directory.parent()?.join("lib").read_dir().ok()?;
    entries.flatten().find_map(|entry| {
        let package = ["site-packages", "dist-packages"]
            .iter()
            .map(|name| entry.path().join(name))
            .find(|path| path.join("casemate/__init__.py").exists())?;
        let python = env::split_paths(&search)
            .map(|path| path.join(entry.file_name()))
            .find(|path| path.is_file())?;
        Some((python, package))
    })
}

#[expect(
    clippy::print_stderr,
    reason = "a command's own failure goes to stderr"
)]
fn report(message: &str) {
    eprintln!("casemate: {message}");
}
