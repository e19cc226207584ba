"""What a container's /sys/fs/cgroup is made of."""

from __future__ import annotations

from casemate.host.cgroup.place import Place


def mounts(places: list[Place], mode: str, *, has_cgroup_namespace: bool) -> list[dict[str, object]]:
    """One entry per directory of the container's /sys/fs/cgroup, v1 first.

    kind: "v1", "v2".   name: the directory; empty where the mount is /sys/fs/cgroup itself (v2 alone).
    is_new: mount the hierarchy anew (in a cgroup namespace, which then shows the container's part only), with
    options: "cpu,cpuacct", "name=systemd"; else bind
    host_path: the container's directory on the host.   links: further names in /sys/fs/cgroup that point to `name`.
    """
    return [_mount(place, mode, has_cgroup_namespace) for place in places]


def _mount(place: Place, mode: str, is_new: bool) -> dict[str, object]:
    name = "" if mode == "v2" else place.mount.rsplit("/", 1)[1]
    return {
        "kind": f"v{place.version}",
        "name": name,
        "options": ",".join(place.controllers),
        "host_path": place.path,
        "is_new": is_new,
        "links": [one for one in place.controllers if len(place.controllers) > 1 and one != name],
    }
