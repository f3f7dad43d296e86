//! Takes the descriptions of types and fields from the sources of k8s-openapi in the cargo registry, for `kubectl explain`.
//! They are upstream's words and are never committed. Invariant: without the sources the build works the same, only
//! without descriptions.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The Kubernetes version whose descriptions are taken; the same as in `xtask/src/codegen.rs`.
const VERSION: &str = "v1_35";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let out =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("descriptions.txt");
    let text = sources().map(|folder| collect(&folder)).unwrap_or_default();
    fs::write(out, text).expect("OUT_DIR is writable");
}

/// The folder of the crate in the registry, at the version of the lock file.
fn sources() -> Option<PathBuf> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let lock = manifest
        .ancestors()
        .find_map(|folder| fs::read_to_string(folder.join("Cargo.lock")).ok())?;
    let (_, rest) = lock.split_once("name = \"k8s-openapi\"\nversion = \"")?;
    let version = rest.split('"').next()?;
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?;
    let folders = registries.flatten().map(|entry| {
        entry
            .path()
            .join(format!("k8s-openapi-{version}/src/{VERSION}"))
    });
    let mut folders = folders.filter(|folder| folder.is_dir());
    folders.next()
}

/// One line `=DEFINITION<tab>INDEX` for each type, one `FIELD<tab>INDEX` for each described field, and after an empty line the
/// descriptions, which are often the same, one per line.
fn collect(folder: &Path) -> String {
    let (mut index, mut texts) = (HashMap::new(), Vec::new());
    let mut out = String::new();
    let mut files = Vec::new();
    list(folder, &mut files);
    files.sort();
    for file in files {
        let Ok(source) = fs::read_to_string(&file) else {
            continue;
        };
        let Some(rest) = source.strip_prefix("// Generated from definition ") else {
            continue;
        };
        let name = rest.lines().next().unwrap_or_default().trim();
        let mut intern = |text: String| {
            *index.entry(text.clone()).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            })
        };
        let mut comment = String::new();
        let mut fields = String::new();
        let mut own = None;
        for line in source.lines().take_while(|line| !line.starts_with("impl")) {
            let line = line.trim();
            if let Some(text) = line.strip_prefix("///") {
                if !comment.is_empty() {
                    comment.push_str("\\n");
                }
                comment.push_str(text.strip_prefix(' ').unwrap_or(text));
            } else if line.starts_with("pub struct ") || line.starts_with("pub enum ") {
                own = Some(intern(std::mem::take(&mut comment)));
            } else if let Some((field, _)) = line
                .strip_prefix("pub ")
                .and_then(|rest| rest.split_once(": "))
            {
                let flat: String = field
                    .trim_start_matches("r#")
                    .chars()
                    .filter(|c| *c != '_')
                    .collect();
                let text = intern(std::mem::take(&mut comment));
                writeln!(fields, "{}\t{text}", flat.to_ascii_lowercase())
                    .expect("writing to a String cannot fail");
            } else if !line.starts_with("#[") {
                comment.clear();
            }
        }
        if let Some(own) = own {
            write!(out, "={name}\t{own}\n{fields}").expect("writing to a String cannot fail");
        }
    }
    out.push('\n');
    out.push_str(&texts.join("\n"));
    out
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
