"""What a container's /sys/fs/cgroup is made of."""

from __future__ import annotations

from casemate.host.cgroup.place import Place


def mounts(places: list[Place], mode: str, *, has_cgroup_namespace: bool) -> list[dict[str, object]]:
    """One entry per directory of the container's /sys/fs/cgroup, v1 first.

    kind: "v1", "v2".   name: the directory; empty where the mount is /sys/fs/cgroup itself (v2 alone).
    options: of a new mount in a cgroup namespace ("cpu,cpuacct", "name=systemd").
    host_path: what to bind where there is no cgroup namespace; empty where there is one.   links: names that point to `name`.
    """
    return [_mount(place, mode, has_cgroup_namespace) for place in places]


def _mount(place: Place, mode: str, has_cgroup_namespace: bool) -> dict[str, object]:
    name = "" if mode == "v2" else place.mount.rsplit("/", 1)[1]
    return {
        "kind": f"v{place.version}",
        "name": name,
        "options": ",".join(place.controllers),
        "host_path": "" if has_cgroup_namespace else place.path,
        "links": [one for one in place.controllers if len(place.controllers) > 1 and one != name],
    }
