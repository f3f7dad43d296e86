"""What programs in Python do to a cluster, with the official client, unmodified. What is not as expected ends it with an error."""

import sys
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

NAMESPACE = "python"


def objects(core):
    """Create, read, patch in three ways, list in pages, and meet a conflict."""
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    for n in range(25):
        core.create_namespaced_config_map(
            NAMESPACE,
            client.V1ConfigMap(
                metadata=client.V1ObjectMeta(name=f"map-{n:02}", labels={"even": str(n % 2 == 0).lower()}),
                data={"n": str(n)},
            ),
        )
    page = core.list_namespaced_config_map(NAMESPACE, limit=10, label_selector="even=true")
    names = [item.metadata.name for item in page.items]
    while page.metadata._continue:
        page = core.list_namespaced_config_map(
            NAMESPACE, limit=10, label_selector="even=true", _continue=page.metadata._continue
        )
        names += [item.metadata.name for item in page.items]
    assert names == [f"map-{n:02}" for n in range(0, 25, 2)], names
    patched = core.patch_namespaced_config_map("map-00", NAMESPACE, {"data": {"more": "yes"}})
    assert patched.data == {"n": "0", "more": "yes"}, patched.data
    patched = core.patch_namespaced_config_map(
        "map-00", NAMESPACE, [{"op": "remove", "path": "/data/more"}]
    )
    assert patched.data == {"n": "0"}, patched.data
    stale = core.read_namespaced_config_map("map-01", NAMESPACE)
    core.patch_namespaced_config_map("map-01", NAMESPACE, {"data": {"n": "one"}})
    try:
        core.replace_namespaced_config_map("map-01", NAMESPACE, stale)
    except ApiException as error:
        assert error.status == 409, error
    else:
        raise AssertionError("a stale object was written")


def watches(core):
    """A watch from a list's version tells each change once, in order."""
    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    for n in range(5):
        core.patch_namespaced_config_map("map-02", NAMESPACE, {"data": {"n": f"w{n}"}})
    core.delete_namespaced_config_map("map-02", NAMESPACE)
    told = []
    for event in watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=version, timeout_seconds=30
    ):
        told.append((event["type"], event["object"].data["n"]))
        if event["type"] == "DELETED":
            break
    expected = [("MODIFIED", f"w{n}") for n in range(5)] + [("DELETED", "w4")]
    assert told == expected, told


def dynamically(api):
    """Discovery finds kinds by name; server-side apply, and a conflict that names the manager."""
    kinds = dynamic.DynamicClient(api)
    deployments = kinds.resources.get(api_version="apps/v1", kind="Deployment")
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "applied"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "applied"}},
            "template": {
                "metadata": {"labels": {"app": "applied"}},
                "spec": {"containers": [{"name": "web", "image": "registry.test/web:1"}]},
            },
        },
    }
    made = deployments.server_side_apply(body=body, namespace=NAMESPACE, field_manager="python")
    assert made.metadata.managedFields[0].operation == "Apply", made.metadata.managedFields
    body["spec"]["replicas"] = 1
    try:
        deployments.server_side_apply(body=body, namespace=NAMESPACE, field_manager="rival")
    except ApiException as error:
        assert error.status == 409 and "python" in str(error.body), error
    else:
        raise AssertionError("a rival's apply was taken")


def pods(api, core):
    """A Pod from a manifest: until it runs, its log, and a command in it over a WebSocket."""
    utils.create_from_dict(
        api,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "web", "image": "registry.test/web:1"}]},
        },
        namespace=NAMESPACE,
    )
    end = time.monotonic() + 60
    while core.read_namespaced_pod("web", NAMESPACE).status.phase != "Running":
        assert time.monotonic() < end, "the pod does not run"
        time.sleep(0.2)
    while "serving 1" not in core.read_namespaced_pod_log("web", NAMESPACE):
        assert time.monotonic() < end, "no log"
        time.sleep(0.2)
    said = stream(
        core.connect_get_namespaced_pod_exec,
        "web",
        NAMESPACE,
        command=["sh", "-c", "echo out; echo $((6 * 7))"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
    )
    assert said == "out\n42\n", repr(said)


def main():
    config.load_kube_config()
    api, core = client.ApiClient(), client.CoreV1Api()
    for name, step in (
        ("objects", lambda: objects(core)),
        ("watches", lambda: watches(core)),
        ("the dynamic client", lambda: dynamically(api)),
        ("pods", lambda: pods(api, core)),
    ):
        step()
        print(name, "ok")
    core.delete_namespace(NAMESPACE)


if __name__ == "__main__":
    sys.exit(main())
