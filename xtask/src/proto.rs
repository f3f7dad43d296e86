//! Generates Rust and descriptors from `proto/**/*.proto` into `proto/src/generated/`, without protoc.
//! Not run by the build: the result is committed, and `--check` proves that it is fresh.
//! Invariant: every `.proto` below `proto/etcd` and `proto/corten` is compiled; there is no list to keep.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// The descriptors of etcd's API, for those who translate it: the JSON gateway.
const DESCRIPTORS: &str = "etcd.fds";

/// Options of `xtask proto`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when the committed files differ from what would be generated.
    #[arg(long)]
    check: bool,
}

/// Generates everything, or checks it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let proto = crate::root().join("proto");
    let committed = proto.join("src/generated");
    let scratch = std::env::temp_dir().join(format!("corten-proto-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let result = generate(&proto, &scratch).and_then(|()| {
        if args.check {
            compare(&scratch, &committed)
        } else {
            install(&scratch, &committed)
        }
    });
    fs::remove_dir_all(&scratch)?;
    result
}

fn generate(proto: &Path, out: &Path) -> Result<()> {
    let etcd = sources(&proto.join("etcd"))?;
    let own = sources(&proto.join("corten"))?;
    compile(proto, &etcd, out, &[])?;
    let descriptors = protox::Compiler::new([proto])
        .and_then(|mut compiler| {
            compiler.include_imports(true).open_files(&etcd)?;
            Ok(compiler.encode_file_descriptor_set())
        })
        .context("describe etcd's .proto files")?;
    fs::write(out.join(DESCRIPTORS), descriptors)?;
    // Own messages refer to etcd's through the crate's module tree rather than generate them a second time. The
    // services of the files they import are generated again all the same, so that run gets a folder of its own.
    let own_out = out.join("own");
    fs::create_dir_all(&own_out)?;
    compile(proto, &own, &own_out, &["mvccpb", "authpb", "etcdserverpb"])?;
    for (name, body) in generated(&own_out)? {
        if name.starts_with("corten.") {
            fs::write(out.join(name), body)?;
        }
    }
    Ok(())
}

fn compile(proto: &Path, files: &[PathBuf], out: &Path, external: &[&str]) -> Result<()> {
    let set = protox::compile(files, [proto]).context("compile the .proto files")?;
    let mut builder = tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .build_client(true)
        .build_server(true);
    for package in external {
        builder = builder.extern_path(format!(".{package}"), format!("crate::etcd::{package}"));
    }
    builder.compile_fds(set).context("generate Rust")?;
    Ok(())
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("read {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "proto") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn generated(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let name = path
            .file_name()
            .context("file without a name")?
            .to_string_lossy()
            .into_owned();
        let body = fs::read(&path)?;
        if name.ends_with(".rs") || name == DESCRIPTORS {
            files.push((name, body));
        }
    }
    files.sort();
    Ok(files)
}

fn install(scratch: &Path, committed: &Path) -> Result<()> {
    fs::create_dir_all(committed)?;
    for entry in fs::read_dir(committed)? {
        fs::remove_file(entry?.path())?;
    }
    for (name, body) in generated(scratch)? {
        fs::write(committed.join(&name), body).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn compare(scratch: &Path, committed: &Path) -> Result<()> {
    let (fresh, old) = (generated(scratch)?, generated(committed)?);
    ensure!(
        fresh == old,
        "proto/src/generated is stale: run `cargo run -p xtask -- proto` and commit"
    );
    Ok(())
}
