//! Who a container is and what it may do, as the kernel sees it.

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};

use crate::{create, delete, has, outcome, until_container};

const MANIFEST: &str = "apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1234, runAsGroup: 2345, fsGroup: 3456, supplementalGroups: [4567]}
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'id; touch /v/file; stat -c %u:%g /v/file; touch /root-file 2>&1; true']
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: nonroot}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true}
  containers: [{name: c, image: 'registry.test/web:1'}]
---
apiVersion: v1
kind: Pod
metadata: {name: readonly}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: registry.test/web:1
    securityContext: {readOnlyRootFilesystem: true}
    command: [sh, -c, 'touch /x 2>&1; touch /v/x && echo volume-ok; touch /dev/shm/x && echo shm-ok']
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: caps}
spec:
  restartPolicy: Never
  securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '77'}]}
  initContainers:
  - {name: default, image: 'registry.test/web:1', command: [grep, -E, 'Cap(Eff|Bnd)|NoNewPrivs|Seccomp:', /proc/self/status]}
  - name: dropped
    image: registry.test/web:1
    command: [grep, -E, 'CapEff|CapBnd', /proc/self/status]
    securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}
  - name: narrow
    image: registry.test/web:1
    command: [grep, -E, 'CapEff|NoNewPrivs|Seccomp:', /proc/self/status]
    securityContext:
      runAsUser: 1000
      allowPrivilegeEscalation: false
      seccompProfile: {type: RuntimeDefault}
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c, 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo 1 > /proc/sys/net/ipv4/ip_forward; mount -t tmpfs none /tmp 2>&1; true']
---
apiVersion: v1
kind: Pod
metadata: {name: privileged}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: registry.test/web:1
    securityContext: {privileged: true}
    command: [sh, -c, 'mount -t tmpfs none /mnt-here 2>&1 || (mkdir /mnt-here && mount -t tmpfs none /mnt-here && echo mounted); grep Seccomp: /proc/self/status; ls /dev | wc -l']
---
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: registry.test/web:1
    resources: {limits: {cpu: 200m, memory: 48Mi}}
    command: [sh, -c, 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max']
";

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    create(cluster, MANIFEST)?;
    users(cluster)?;
    capabilities(cluster)?;
    delete(
        cluster,
        &[
            "user",
            "nonroot",
            "readonly",
            "caps",
            "privileged",
            "limited",
        ],
    )
}

fn users(cluster: &Cluster) -> Result<()> {
    step("runAsUser, groups, fsGroup, runAsNonRoot, a read-only root");
    let log = outcome(cluster, "user")?;
    has(
        &log,
        &[
            "uid=1234",
            "gid=2345",
            "3456",
            "4567",
            "1234:3456",
            "Permission denied",
        ],
    )?;
    until_container(cluster, "nonroot", "refused", |status| {
        let waiting = &status["state"]["waiting"];
        waiting["reason"] == "CreateContainerConfigError"
            && waiting["message"]
                .as_str()
                .is_some_and(|m| m.contains("runAsNonRoot"))
    })?;
    has(
        &outcome(cluster, "readonly")?,
        &["Read-only file system", "volume-ok", "shm-ok"],
    )
}

fn capabilities(cluster: &Cluster) -> Result<()> {
    step("capabilities, seccomp, no-new-privileges, sysctls, privileged, limits");
    let own = outcome(cluster, "caps")?;
    has(&own, &["77\n", "Read-only file system", "mount"])?;
    let of = |name: &str| cluster.kubectl(&["logs", "caps", "-c", name]);
    has(
        &of("default")?,
        &["CapEff:\t00000000a80425fb", "NoNewPrivs:\t0"],
    )?;
    has(
        &of("dropped")?,
        &["CapEff:\t0000000000000400", "CapBnd:\t0000000000000400"],
    )?;
    has(
        &of("narrow")?,
        &["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"],
    )?;
    let log = outcome(cluster, "privileged")?;
    has(&log, &["mounted", "Seccomp:\t0"])?;
    let devices: u32 = log.lines().last().unwrap_or_default().trim().parse()?;
    ensure!(devices > 20, "the host's devices: {devices}");
    let log = outcome(cluster, "limited")?;
    let v1 = log == "50331648\n20000\n";
    let v2 = log == "50331648\n20000 100000\n";
    ensure!(v1 || v2, "{log:?}");
    Ok(())
}
