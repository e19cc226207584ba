"""mounts, and the default devices and links that come after them. Source: config.md "Mounts", config-linux.md "Default Filesystems", "Default Devices"."""

from __future__ import annotations

from casemate.errors import SpecError
from casemate.oci.fields.mount_options import MS_BIND, MS_RDONLY, MS_REC, MS_REMOUNT, Options
from casemate.oci.fields.namespaces import has_user_namespace
from casemate.oci.plan import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from casemate.oci.plan import PlanBuilder

    Object = dict[str, object]

_DEFAULT_DEVICES = (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9))
_LINKS = (("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"), ("/proc/self/fd/1", "/dev/stdout"), ("/proc/self/fd/2", "/dev/stderr"))


def lower(spec: Object, linux: Object, plan: PlanBuilder) -> None:
    """All mounts in order, then devices and links."""
    for index, mount in enumerate(spec.get("mounts") or []):  # type: ignore[var-annotated, arg-type]
        _mount(mount, index, plan)
    _devices(spec, linux, plan)


def _mount(mount: Object, index: int, plan: PlanBuilder) -> None:
    options = Options([str(option) for option in mount.get("options") or []])  # type: ignore[attr-defined]
    if mount.get("type") == "bind" and not options.flags & MS_BIND:
        options.flags |= MS_BIND | MS_REC
    if "copy-symlink" in options.data:
        raise SpecError(
            file=plan.context.config_file, json_path=f"mounts[{index}].options", value="copy-symlink", expected="another option: this one is not supported"
        )
    if mount.get("type") == "cgroup":
        _cgroup(mount, options, plan)
        return
    bind = bool(options.flags & MS_BIND)
    source = str(mount.get("source") or "")
    if bind and not source.startswith("/"):
        source = f"{plan.context.bundle}/{source}"  # config.md: relative to the bundle
    changes = bool(options.flags & MS_REMOUNT or options.propagation)  # of what is mounted there already
    if not bind and not changes and not mount.get("type"):
        raise SpecError(
            file=plan.context.config_file, json_path=f"mounts[{index}].type", value=mount.get("type"), expected="a file system type, or bind among the options"
        )
    destination = _absolute(str(mount["destination"]))
    plan.add(
        Phase.MOUNTS,
        "mount",
        destination=destination,
        source=source or None,
        fstype=None if bind else str(mount.get("type") or "none"),
        flags=options.flags,
        propagation=options.propagation,
        data=",".join(options.data) if not bind else "",
        recursive_set=options.recursive_set,
        recursive_clear=options.recursive_clear,
        idmap=_idmap(mount, options, index, plan),
        tmpcopyup=options.tmpcopyup,
        create="auto" if bind else "dir",
    )


def _absolute(destination: str) -> str:
    # config.md: a relative destination is deprecated and taken below /
    return destination if destination.startswith("/") else f"/{destination}"


def _idmap(mount: Object, options: Options, index: int, plan: PlanBuilder) -> Object | None:
    uid, gid = mount.get("uidMappings"), mount.get("gidMappings")
    if not (uid or gid or options.idmap):
        return None
    if not (uid and gid):
        raise SpecError(
            file=plan.context.config_file,
            json_path=f"mounts[{index}].uidMappings",
            expected="uidMappings and gidMappings of the mount: it is id-mapped",
        )
    triples = [[[m["containerID"], m["hostID"], m["size"]] for m in mapping] for mapping in (uid, gid)]  # type: ignore[attr-defined]
    return {"uid": triples[0], "gid": triples[1], "recursive": options.idmap == "ridmap"}


def _cgroup(mount: Object, options: Options, plan: PlanBuilder) -> None:
    """v2: one mount. v1: a tmpfs with a directory per hierarchy and links for the joined ones, as systemd lays them out on a host."""
    destination = _absolute(str(mount["destination"]))
    entries = plan.context.cgroup_mounts
    if len(entries) == 1 and entries[0].get("kind") == "v2":
        _cgroup_entry(entries[0], destination, options.flags, plan)
        return
    plan.add(Phase.MOUNTS, "mount", destination=destination, source="tmpfs", fstype="tmpfs", flags=options.flags & ~MS_RDONLY, data="mode=755", create="dir")
    for entry in entries:
        _cgroup_entry(entry, f"{destination}/{entry['name']}", options.flags, plan)
        for link in entry.get("links") or []:  # type: ignore[attr-defined]
            if link != entry["name"]:
                plan.add(Phase.MOUNTS, "symlink", target=str(entry["name"]), path=f"{destination}/{link}", replace=False)
    if options.flags & MS_RDONLY:
        plan.add(Phase.DEVICES, "mount", destination=destination, flags=options.flags | 32, create="none")


def _cgroup_entry(entry: Object, destination: str, flags: int, plan: PlanBuilder) -> None:
    if entry.get("host_path"):
        plan.add(Phase.MOUNTS, "mount", destination=destination, source=str(entry["host_path"]), flags=flags | MS_BIND, create="dir")
        return
    fstype = "cgroup2" if entry["kind"] == "v2" else "cgroup"
    plan.add(Phase.MOUNTS, "mount", destination=destination, source="cgroup", fstype=fstype, flags=flags, data=str(entry.get("options") or ""), create="dir")


def _devices(spec: Object, linux: Object, plan: PlanBuilder) -> None:
    if _dev_is_bound(spec):
        return  # the host's /dev has all it has; nothing of ours is made in it [runc needsSetupDev]
    bind = has_user_namespace(linux)
    given = {str(device["path"]): device for device in linux.get("devices") or []}  # type: ignore[attr-defined]
    for name, minor in _DEFAULT_DEVICES:
        if f"/dev/{name}" not in given:
            plan.add(Phase.DEVICES, "device", path=f"/dev/{name}", type="c", major=1, minor=minor, mode=0o666, uid=0, gid=0, bind=bind)
    if "/dev/tty" not in given:
        plan.add(Phase.DEVICES, "device", path="/dev/tty", type="c", major=5, minor=0, mode=0o666, uid=0, gid=0, bind=bind)
    for device in given.values():
        _device(device, bind, plan)
    for target, path in _LINKS:
        plan.add(Phase.DEVICES, "symlink", target=target, path=path, replace=False)
    plan.add(Phase.DEVICES, "symlink", target="pts/ptmx", path="/dev/ptmx", replace=True)


def _device(device: Object, bind: bool, plan: PlanBuilder) -> None:
    mode = device.get("fileMode")
    plan.add(
        Phase.DEVICES,
        "device",
        path=device["path"],
        type="c" if device["type"] == "u" else device["type"],  # unbuffered: mknod(1)'s other name for it
        major=device.get("major") or 0,
        minor=device.get("minor") or 0,
        mode=0o666 if mode is None else int(str(mode)) & 0o7777,  # podman gives st_mode, with the type in it
        uid=device.get("uid") or 0,
        gid=device.get("gid") or 0,
        bind=bind and device["type"] != "p",
    )


def _dev_is_bound(spec: Object) -> bool:
    for mount in spec.get("mounts") or []:  # type: ignore[attr-defined]
        if str(mount["destination"]).rstrip("/") == "/dev":
            options = mount.get("options") or []
            return mount.get("type") == "bind" or "bind" in options or "rbind" in options
    return False
