//! Which method and path is which request. The state rules stand here too: [`Stage`] says when a request is allowed.
use serde::de::DeserializeOwned;

use crate::api::deprecated::deprecated;
use crate::api::http::Request;
use crate::api::{Fault, Reply};
use crate::controller::Controller;

/// When a request is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Always,
    BeforeStart,
    AfterStart,
}

type Handler = fn(&mut Controller, id: &str, body: &[u8]) -> Result<Reply, Fault>;

use Stage::{AfterStart, Always, BeforeStart};

/// `{}` in a path is an id.
const ROUTES: &[(&str, &str, Stage, Handler)] = &[
    ("GET", "/", Always, |vm, _, _| vm.describe()),
    ("GET", "/version", Always, |vm, _, _| vm.version()),
    ("GET", "/vm/config", Always, |vm, _, _| vm.full_config()),
    ("PATCH", "/vm", AfterStart, |vm, _, body| {
        vm.change_state(read(body)?)
    }),
    ("PUT", "/actions", Always, |vm, _, body| vm.act(read(body)?)),
    ("GET", "/machine-config", Always, |vm, _, _| vm.machine()),
    ("PUT", "/machine-config", BeforeStart, |vm, _, body| {
        vm.put_machine(read(body)?)
    }),
    ("PATCH", "/machine-config", BeforeStart, |vm, _, body| {
        vm.patch_machine(read(body)?)
    }),
    ("PUT", "/cpu-config", BeforeStart, |vm, _, body| {
        vm.put_cpu_config(read(body)?)
    }),
    ("PUT", "/boot-source", BeforeStart, |vm, _, body| {
        vm.put_boot_source(read(body)?)
    }),
    ("PUT", "/drives/{}", BeforeStart, |vm, id, body| {
        vm.put_drive(id, read(body)?)
    }),
    ("PATCH", "/drives/{}", AfterStart, |vm, id, body| {
        vm.patch_drive(id, &read(body)?)
    }),
    (
        "PUT",
        "/network-interfaces/{}",
        BeforeStart,
        |vm, id, body| vm.put_network(id, read(body)?),
    ),
    ("PUT", "/vsock", BeforeStart, |vm, _, body| {
        vm.put_vsock(read(body)?)
    }),
    ("PUT", "/entropy", BeforeStart, |vm, _, body| {
        vm.put_entropy(read(body)?)
    }),
    ("PUT", "/serial", BeforeStart, |vm, _, body| {
        vm.put_serial(read(body)?)
    }),
    ("GET", "/balloon", Always, |vm, _, _| vm.balloon()),
    ("PUT", "/balloon", BeforeStart, |vm, _, body| {
        vm.put_balloon(read(body)?)
    }),
    ("PATCH", "/balloon", AfterStart, |vm, _, body| {
        vm.patch_balloon(&read(body)?)
    }),
    ("GET", "/balloon/statistics", AfterStart, |vm, _, _| {
        vm.balloon_statistics()
    }),
    ("PATCH", "/balloon/statistics", AfterStart, |vm, _, body| {
        vm.patch_balloon_statistics(&read(body)?)
    }),
    (
        "PATCH",
        "/balloon/hinting/start",
        AfterStart,
        |vm, _, body| {
            let start = (!body.is_empty()).then(|| read(body)).transpose()?;
            vm.start_hinting(start)
        },
    ),
    ("GET", "/balloon/hinting/status", AfterStart, |vm, _, _| {
        vm.hinting()
    }),
    ("PATCH", "/balloon/hinting/stop", AfterStart, |vm, _, _| {
        vm.stop_hinting()
    }),
    ("PUT", "/casemate/console", BeforeStart, |vm, _, body| {
        vm.put_console(read(body)?)
    }),
    ("PUT", "/logger", BeforeStart, |vm, _, body| {
        vm.put_logger(read(body)?)
    }),
    ("PUT", "/metrics", BeforeStart, |vm, _, body| {
        vm.put_metrics(read(body)?)
    }),
    ("GET", "/mmds", Always, |vm, _, _| vm.mmds()),
    ("PUT", "/mmds", Always, |vm, _, body| {
        vm.put_mmds(read(body)?)
    }),
    ("PATCH", "/mmds", Always, |vm, _, body| {
        vm.patch_mmds(&read(body)?)
    }),
    ("PUT", "/mmds/config", BeforeStart, |vm, _, body| {
        vm.put_mmds_config(read(body)?)
    }),
    (
        "PATCH",
        "/network-interfaces/{}",
        AfterStart,
        |vm, id, body| vm.patch_network(id, &read(body)?),
    ),
    ("PUT", "/snapshot/create", AfterStart, |vm, _, body| {
        vm.create_snapshot(&read(body)?)
    }),
    ("PUT", "/snapshot/load", BeforeStart, |vm, _, body| {
        vm.load_snapshot(&read(body)?)
    }),
    ("PUT", "/casemate/fork", AfterStart, |vm, _, body| {
        vm.fork(&read(body)?)
    }),
    ("PUT", "/pmem/{}", BeforeStart, |vm, id, body| {
        vm.put_pmem(id, read(body)?)
    }),
    ("PATCH", "/pmem/{}", AfterStart, |vm, id, body| {
        vm.patch_pmem(id, &read(body)?)
    }),
    ("PUT", "/hotplug/memory", BeforeStart, |vm, _, body| {
        vm.put_hotplug(read(body)?)
    }),
    ("PATCH", "/hotplug/memory", AfterStart, |vm, _, body| {
        vm.patch_hotplug(&read(body)?)
    }),
    ("GET", "/hotplug/memory", AfterStart, |vm, _, _| {
        vm.hotplug()
    }),
];

/// Serves a request; the texts are Firecracker's, because clients search for them.
pub(crate) fn serve(vm: &mut Controller, request: &Request) -> Result<Reply, Fault> {
    let unknown = || {
        Fault(format!(
            "Invalid request method and/or path: {} {}.",
            request.method, request.path
        ))
    };
    let path = match request.path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let found = ROUTES.iter().find_map(|(method, pattern, stage, handler)| {
        let id = matches(pattern, path).filter(|_| *method == request.method)?;
        Some((id, *method, *pattern, (*stage, *handler)))
    });
    let (id, method, pattern, route) = found.ok_or_else(unknown)?;
    let result = answer(vm, request, id, route, WITHOUT_BODY.contains(&pattern));
    let is_ok = matches!(result, Ok(Reply::Done | Reply::Json(_)));
    vm.requests.count(method, noun(pattern), is_ok);
    if let Some(message) = deprecated(request) {
        vm.tell_deprecated(message);
    }
    result
}

/// Those of PATCH that need no body.
const WITHOUT_BODY: [&str; 2] = ["/balloon/hinting/start", "/balloon/hinting/stop"];

fn answer(
    vm: &mut Controller,
    request: &Request,
    id: &str,
    (stage, handler): (Stage, Handler),
    needs_none: bool,
) -> Result<Reply, Fault> {
    if request.method == "GET" && !request.body.is_empty() {
        return Err(Fault::new("GET request cannot have a body."));
    }
    if request.method != "GET" && request.body.is_empty() && !needs_none {
        return Err(Fault(format!("Empty {} request.", request.method)));
    }
    match (stage, vm.has_started()) {
        (BeforeStart, true) => {
            return Err(Fault::new(
                "The requested operation is not supported after starting the microVM.",
            ));
        }
        (AfterStart, false) => {
            return Err(Fault::new(
                "The requested operation is not supported before starting the microVM.",
            ));
        }
        _ => {}
    }
    handler(vm, id, &request.body)
}

/// What the metrics call the thing that a path is about, with Firecracker's words.
fn noun(pattern: &'static str) -> &'static str {
    match pattern {
        "/" => "instance_info",
        "/version" => "vmm_version",
        "/machine-config" => "machine_cfg",
        "/cpu-config" => "cpu_cfg",
        "/boot-source" => "boot_source",
        "/drives/{}" => "drive",
        "/network-interfaces/{}" => "network",
        "/pmem/{}" => "pmem",
        "/hotplug/memory" => "hotplug_memory",
        "/vm/config" => "vm_config",
        "/mmds/config" => "mmds",
        "/snapshot/create" => "snapshot_create",
        "/snapshot/load" => "snapshot_load",
        "/balloon/statistics" => "balloon_statistics",
        "/casemate/console" => "console",
        other if other.starts_with("/balloon/hinting") => "balloon_hinting",
        other => other.trim_start_matches('/'),
    }
}

/// The id in `path`, if it has the form of `pattern`; empty for a pattern without one.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.strip_suffix("{}") {
        Some(prefix) => path
            .strip_prefix(prefix)
            .filter(|id| !id.is_empty() && !id.contains('/')),
        None => (pattern == path).then_some(""),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        Fault(format!(
            "An error occurred when deserializing the json body of a request: {error}."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn an_id_is_one_segment() {
        assert_eq!(matches("/drives/{}", "/drives/rootfs"), Some("rootfs"));
        assert_eq!(matches("/drives/{}", "/drives/a/b"), None);
        assert_eq!(matches("/drives/{}", "/drives"), None);
    }
}
