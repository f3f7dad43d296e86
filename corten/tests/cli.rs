//! The command line as a person meets it: what it explains, what it prints, and how it says no. Nothing here needs root; what
//! the verbs do is shown by the end-to-end tests.

use std::process::{Command, Output};

fn corten(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corten"))
        .args(args)
        .output()
        .expect("the launcher starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_verb() {
    let help = text(&corten(&["--help"]).stdout);
    for verb in [
        "up",
        "down",
        "status",
        "kubeconfig",
        "apply",
        "image",
        "bench",
        "lab",
        "backup",
        "restore",
        "recover-quorum",
        "role",
    ] {
        let line = help
            .lines()
            .find(|line| line.trim_start().starts_with(verb));
        let line = line.unwrap_or_else(|| panic!("{verb} is not in\n{help}"));
        assert!(
            line.trim().len() > verb.len() + 4,
            "{verb} is explained: {line:?}"
        );
    }
}

#[test]
fn the_version_names_release_and_commit() {
    let version = text(&corten(&["--version"]).stdout);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(version.contains('('), "a commit in brackets: {version}");
}

#[test]
fn a_role_with_an_unknown_setting_is_refused_with_the_setting_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("store.toml");
    std::fs::write(&file, "nmae = \"m1\"\n").expect("written");
    let out = corten(&["role", "store", "--config", &file.to_string_lossy()]);
    assert!(!out.status.success());
    assert!(text(&out.stderr).contains("nmae"), "{}", text(&out.stderr));
}

#[test]
fn without_a_cluster_there_is_no_kubeconfig_and_it_says_what_makes_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = corten(&["kubeconfig", "--config-dir", &dir.path().to_string_lossy()]);
    assert!(!out.status.success());
    assert!(
        text(&out.stderr).contains("corten up"),
        "{}",
        text(&out.stderr)
    );
}
