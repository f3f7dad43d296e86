//! Images for tests, made of Debian's static busybox and a few scripts: a docker archive, built without any builder. Where
//! busybox is not enough, programs of this machine come along with the libraries that they are linked to.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// What an image shall hold beside busybox.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// Files as (path, content); executable.
    pub files: Vec<(String, String)>,
    /// What runs before the command.
    pub entrypoint: Vec<String>,
    /// What runs.
    pub command: Vec<String>,
    /// Who runs it; empty for root.
    pub user: String,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    /// Programs of this machine, as absolute paths.
    pub programs: Vec<&'static str>,
    /// Other files of this machine, as (path in the image, file); executable.
    pub binaries: Vec<(String, PathBuf)>,
    /// The same, run as their owner, who is root.
    pub setuid: Vec<(String, PathBuf)>,
    /// Symbolic links, as (path, target).
    pub links: Vec<(String, String)>,
    /// More users.
    pub users: Vec<(String, u32)>,
    /// More groups, each with a member.
    pub groups: Vec<(String, u32, String)>,
}

/// A web server that says its version and host name, and goes on serving for a while after SIGTERM, as a server that drains
/// does.
pub fn web(version: &str) -> Recipe {
    let script = "#!/bin/sh\nmkdir -p /tmp/www\nln -sf /srv/cgi-bin /tmp/www/cgi-bin\necho \"$VERSION $(hostname)\" > /tmp/www/index.html\n\
                  trap 'sleep 3; exit 0' TERM\nhttpd -p 8080 -h /tmp/www\necho \"serving $VERSION\"\n\
                  while :; do sleep 1 & wait $!; done\n";
    // What a client's address looks like from here.
    let whoami = "#!/bin/sh\necho 'Content-Type: text/plain'\necho\necho \"$REMOTE_ADDR\" | sed 's/.*ffff://; s/]//'\n";
    // Debian's busybox is linked statically against glibc, whose resolver cannot load its parts here: wget crashes. nslookup
    // has a resolver of its own, and nc does without for addresses.
    let fetch = "#!/bin/sh\ncase $1 in [0-9]*.*) ip=$1 ;; *) ip=$(nslookup -type=a $1 | awk '/^Address/ && !/:53$/ {print $NF}' | tail -n 1) ;; esac\n\
                 printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc $ip 80 | tail -n 1\n";
    Recipe {
        files: vec![
            ("bin/web".to_owned(), script.to_owned()),
            ("bin/fetch".to_owned(), fetch.to_owned()),
            ("srv/cgi-bin/whoami".to_owned(), whoami.to_owned()),
        ],
        command: vec!["/bin/web".to_owned()],
        env: vec![format!("VERSION={version}")],
        ..Recipe::default()
    }
}

/// Answers each UDP packet with the pod's name and the packet's length.
const UDP_SERVE: &str = r#"#!/usr/bin/perl
$| = 1;
$SIG{TERM} = sub { exit 0 };
chomp(my $name = `hostname`);
socket(S, 2, 2, 17) or die "socket: $!";
bind(S, pack('S n C4 x8', 2, $ARGV[0], 0, 0, 0, 0)) or die "bind: $!";
while (1) {
    my $from = recv(S, my $text, 65535, 0);
    send(S, "$name " . length($text), 0, $from) if defined $from;
}
"#;

/// Asks an address again and again through one socket; a line for each try: the answer, or `-`.
const UDP_ASK: &str = r#"#!/usr/bin/perl
$| = 1;
$SIG{TERM} = sub { exit 0 };
my ($ip, $port, $bytes, $times) = @ARGV;
socket(S, 2, 2, 17) or die "socket: $!";
connect(S, pack('S n C4 x8', 2, $port, split(/\./, $ip))) or die "connect: $!";
for (my $i = 0; !$times || $i < $times; $i++) {
    send(S, 'x' x ($bytes || 1), 0);
    my $ready = '';
    vec($ready, fileno(S), 1) = 1;
    my ($text, $answer) = ('', '-');
    if (select($ready, undef, undef, 0.5)) {
        $answer = $text if defined(recv(S, $text, 65535, 0)) && length($text);
    }
    print "$answer\n";
    select(undef, undef, undef, 0.2);
}
"#;

/// The web server with real clients beside it: curl (names, TLS, uploads), and perl for `udp-serve` and `udp-ask`.
pub fn tools(version: &str) -> Recipe {
    let mut recipe = web(version);
    recipe.programs = vec!["/usr/bin/curl", "/usr/bin/perl"];
    recipe.files.extend([
        ("bin/udp-serve".to_owned(), UDP_SERVE.to_owned()),
        ("bin/udp-ask".to_owned(), UDP_ASK.to_owned()),
        (
            "etc/nsswitch.conf".to_owned(),
            "hosts: files dns\n".to_owned(),
        ),
    ]);
    recipe
}

/// What images commonly have.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Writes a docker archive of `recipe` under the name `tag`; returns its path.
pub fn build(recipe: &Recipe, tag: &str, dir: &Path) -> Result<PathBuf> {
    let layer = layer(recipe)?;
    let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    let mut env = vec![PATH.to_owned()];
    env.extend(recipe.env.iter().cloned());
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Entrypoint": recipe.entrypoint, "Cmd": recipe.command, "User": recipe.user, "Env": env, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "corten e2e"}],
    })
    .to_string();
    let name = hex::encode(Sha256::digest(config.as_bytes()));
    let manifest =
        serde_json::json!([{"Config": format!("{name}.json"), "RepoTags": [tag], "Layers": ["layer.tar"]}]).to_string();
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("{}.tar", tag.replace(['/', ':'], "-")));
    let mut archive = tar::Builder::new(std::fs::File::create(&path)?);
    for (name, bytes) in [
        ("manifest.json".to_owned(), manifest.as_bytes()),
        (format!("{name}.json"), config.as_bytes()),
        ("layer.tar".to_owned(), layer.as_slice()),
    ] {
        append(&mut archive, &name, bytes, 0o644)?;
    }
    archive.finish()?;
    Ok(path)
}

fn layer(recipe: &Recipe) -> Result<Vec<u8>> {
    let busybox = std::fs::read("/bin/busybox").or_else(|_| std::fs::read("/usr/bin/busybox"));
    let busybox = busybox.context("busybox is missing; install busybox-static")?;
    let listed = std::process::Command::new("busybox")
        .arg("--list")
        .output()
        .context("busybox")?;
    let mut archive = tar::Builder::new(Vec::new());
    for dir in [
        "bin", "etc", "tmp", "root", "proc", "sys", "dev", "usr", "usr/bin", "var", "srv", "lib",
        "lib64",
    ] {
        let mut header = plain_header();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if dir == "tmp" { 0o1777 } else { 0o755 });
        header.set_size(0);
        archive.append_data(&mut header, format!("{dir}/"), std::io::empty())?;
    }
    append(&mut archive, "bin/busybox", &busybox, 0o755)?;
    for applet in String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter(|applet| *applet != "busybox")
    {
        link(&mut archive, &format!("bin/{applet}"), "busybox")?;
    }
    add_users(&mut archive, recipe)?;
    for (path, content) in &recipe.files {
        append(&mut archive, path, content.as_bytes(), 0o755)?;
    }
    for path in with_libraries(&recipe.programs)? {
        let content = std::fs::read(&path).with_context(|| path.clone())?;
        append(&mut archive, path.trim_start_matches('/'), &content, 0o755)?;
    }
    for (files, mode) in [(&recipe.binaries, 0o755), (&recipe.setuid, 0o6755)] {
        for (path, file) in files {
            let content = std::fs::read(file).with_context(|| file.display().to_string())?;
            append(&mut archive, path, &content, mode)?;
        }
    }
    for (path, target) in &recipe.links {
        link(&mut archive, path, target)?;
    }
    Ok(archive.into_inner()?)
}

fn link(archive: &mut tar::Builder<impl Write>, path: &str, target: &str) -> Result<()> {
    let mut header = plain_header();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    archive.append_link(&mut header, path, target)?;
    Ok(())
}

fn add_users(archive: &mut tar::Builder<impl Write>, recipe: &Recipe) -> Result<()> {
    let mut users = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    let mut groups = "root:x:0:\n".to_owned();
    let plain = [("user".to_owned(), 1000)];
    let named = if recipe.users.is_empty() {
        &plain[..]
    } else {
        &recipe.users
    };
    for (name, id) in named {
        users.push_str(&format!("{name}:x:{id}:{id}::/tmp:/bin/sh\n"));
        groups.push_str(&format!("{name}:x:{id}:\n"));
    }
    for (name, id, member) in &recipe.groups {
        groups.push_str(&format!("{name}:x:{id}:{member}\n"));
    }
    append(archive, "etc/passwd", users.as_bytes(), 0o644)?;
    append(archive, "etc/group", groups.as_bytes(), 0o644)
}

/// The programs and every library that they are linked to, each once, under the names by which they are looked for.
fn with_libraries(programs: &[&str]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let out = std::process::Command::new("ldd").arg(program).output()?;
        ensure!(
            out.status.success(),
            "ldd {program}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f...)`, and the loader alone on its line.
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            let path = line.split_whitespace().find(|word| word.starts_with('/'));
            found.extend(path.map(str::to_owned));
        }
        found.insert((*program).to_owned());
    }
    Ok(found)
}

/// Owned by root, at the beginning of time, so that the same recipe gives the same image.
fn plain_header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = plain_header();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, name, bytes)?;
    Ok(())
}
