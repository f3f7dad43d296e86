//! The suite's images, assembled from its own programs and from Debian's packages, and served by a mirror of the registry that
//! the suite names.
//!
//! They hold what the tests use of upstream's images, not the same bytes. Images that no conformance test needs, and those
//! that need another machine, are not there: tests that ask for them fail.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::image::Recipe;

/// Versions are those of `e2e.test --list-images`.
const AGNHOST: [&str; 2] = ["agnhost:2.59", "agnhost:2.55"];

/// Where the suite looks for its images.
const UPSTREAM: &str = "registry.k8s.io";

/// Pushes all images, and lets every node look for them here.
pub fn push(cluster: &Cluster, programs: &Path) -> Result<()> {
    cluster
        .lab()
        .add_registry(UPSTREAM, &cluster.registry().url())?;
    for (tag, recipe) in recipes(programs) {
        cluster
            .push(&recipe, &tag)
            .with_context(|| format!("image {tag}"))?;
    }
    Ok(())
}

fn recipes(programs: &Path) -> Vec<(String, Recipe)> {
    let test = |name: &str| format!("e2e-test-images/{name}");
    let mut all = Vec::new();
    for tag in AGNHOST {
        all.push((test(tag), agnhost(programs)));
    }
    all.push((test("busybox:1.37.0-1"), shell()));
    all.push((
        "pause:3.10.1".to_owned(),
        Recipe {
            entrypoint: words(&["/agnhost", "pause"]),
            binaries: vec![program(programs, "agnhost", "agnhost")],
            ..Recipe::default()
        },
    ));
    for tag in ["nginx:1.14-4", "nginx:1.15-4"] {
        all.push((test(tag), nginx()));
    }
    for name in ["kitten:1.7", "nautilus:1.7"] {
        let data = format!(
            "{{\"image\": \"{}.jpg\"}}\n",
            name.split(':').next().unwrap_or(name)
        );
        let mut recipe = agnhost(programs);
        recipe.command = words(&["test-webserver"]);
        recipe.files.push(("data.json".to_owned(), data));
        all.push((test(name), recipe));
    }
    let mut nobody = agnhost(programs);
    nobody.user = "1234".to_owned();
    all.push((test("nonroot:1.4"), nobody));
    all.push((
        test("nonewprivs:1.3"),
        Recipe {
            command: words(&["nnp"]),
            setuid: vec![program(programs, "nonewprivs", "usr/local/bin/nnp")],
            ..Recipe::default()
        },
    ));
    let mut names = shell();
    names
        .programs
        .extend(["/usr/bin/dig", "/usr/bin/curl", "/usr/bin/getent"]);
    names.files.push(hosts_first());
    names.command = words(&["sleep", "1000000"]);
    all.push((test("jessie-dnsutils:1.7"), names));
    all
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn program(programs: &Path, name: &str, place: &str) -> (String, PathBuf) {
    (place.to_owned(), programs.join(name))
}

/// bash in the place of the shell: Debian's busybox drops variables with unusual names, which upstream's images pass on, and takes
/// its own nc and nslookup before those that the tests mean.
fn bash() -> (String, String) {
    ("bin/sh".to_owned(), "../usr/bin/bash".to_owned())
}

fn shell() -> Recipe {
    Recipe {
        command: words(&["sh"]),
        programs: vec!["/usr/bin/bash"],
        links: vec![bash()],
        ..Recipe::default()
    }
}

/// Names are looked up in /etc/hosts before the cluster's DNS is asked.
fn hosts_first() -> (String, String) {
    let text = "hosts: files dns\n".to_owned();
    ("etc/nsswitch.conf".to_owned(), text)
}

/// One program with many jobs, and the tools that tests call in its containers.
fn agnhost(programs: &Path) -> Recipe {
    Recipe {
        entrypoint: words(&["/agnhost"]),
        command: words(&["pause"]),
        binaries: vec![
            program(programs, "agnhost", "agnhost"),
            program(programs, "agnhost", "agnhost-2"),
            program(programs, "localhost.crt", "localhost.crt"),
            program(programs, "localhost.key", "localhost.key"),
        ],
        files: vec![hosts_first()],
        programs: vec![
            "/usr/bin/curl",
            "/usr/bin/getent",
            "/usr/bin/dig",
            "/usr/bin/nslookup",
            "/usr/bin/bash",
            "/usr/sbin/ip",
            "/usr/bin/ss",
            "/usr/bin/nc.openbsd",
        ],
        links: vec![("usr/bin/nc".to_owned(), "nc.openbsd".to_owned()), bash()],
        users: vec![("user-defined-in-image".to_owned(), 1000)],
        groups: vec![(
            "group-defined-in-image".to_owned(),
            50000,
            "user-defined-in-image".to_owned(),
        )],
        ..Recipe::default()
    }
}

/// A web server on port 80 that says it is one of nginx's.
fn nginx() -> Recipe {
    let page = "<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>\n";
    Recipe {
        files: vec![(
            "usr/share/nginx/html/index.html".to_owned(),
            page.to_owned(),
        )],
        command: words(&["httpd", "-f", "-p", "80", "-h", "/usr/share/nginx/html"]),
        ..Recipe::default()
    }
}
