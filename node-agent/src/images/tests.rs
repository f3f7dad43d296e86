//! The store over archives made in the test: import, names that move, removal, and the pull policies that need no network.

use std::collections::HashSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::*;
use crate::traits::{PodRef, PullSecret};

/// A docker archive with one layer that holds one file.
fn archive(dir: &Path, tag: &str, content: &str) -> PathBuf {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    layer
        .append_data(&mut header, "file", content.as_bytes())
        .expect("layer");
    let layer = layer.into_inner().expect("layer");
    let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    let config = serde_json::json!({
        "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "config": {"Cmd": ["/bin/app"], "User": "1000"},
    })
    .to_string();
    let manifest =
        serde_json::json!([{"Config": "c.json", "RepoTags": [tag], "Layers": ["l.tar"]}])
            .to_string();
    let path = dir.join(format!("{}.tar", hex::encode(Sha256::digest(content))));
    let mut out = tar::Builder::new(std::fs::File::create(&path).expect("archive"));
    for (name, bytes) in [
        ("manifest.json", manifest.as_bytes()),
        ("c.json", config.as_bytes()),
        ("l.tar", &layer),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        out.append_data(&mut header, name, bytes).expect("entry");
    }
    out.finish().expect("finish");
    path
}

fn open(dir: &Path) -> Images {
    Images::open(ImagesConfig {
        root: dir.join("store"),
        registries: None,
        pulls_max: 2,
    })
    .expect("open")
}

fn request(image: &str, policy: PullPolicy) -> ImageRequest {
    let pod = PodRef {
        namespace: "d".into(),
        name: "p".into(),
        uid: "u".into(),
    };
    ImageRequest {
        image: image.to_owned(),
        policy,
        secrets: Vec::new(),
        pod,
    }
}

#[tokio::test]
async fn an_imported_image_is_found_survives_reopening_and_goes_with_its_layers() {
    let dir = tempfile::tempdir().expect("temp dir");
    let images = open(dir.path());
    let imported = images
        .import(archive(dir.path(), "demo:1", "one"))
        .await
        .expect("import");
    assert_eq!(imported[0].references, ["docker.io/library/demo:1"]);
    assert_eq!(
        std::fs::read(imported[0].layers[0].join("file")).expect("layer"),
        b"one"
    );
    drop(images);
    let images = open(dir.path());
    let found = images
        .ensure_present(&request("demo:1", PullPolicy::IfNotPresent), None)
        .await
        .expect("present");
    assert!(found.pulled.is_none());
    assert_eq!(
        (
            found.record.config.user.as_str(),
            found.record.config.cmd.len()
        ),
        ("1000", 1)
    );
    let layer = found.record.layers[0].clone();
    images.remove("demo:1").await.expect("remove");
    assert!(!layer.exists() && images.list().await.expect("list").is_empty());
}

#[tokio::test]
async fn a_tag_moves_to_the_newer_image() {
    let dir = tempfile::tempdir().expect("temp dir");
    let images = open(dir.path());
    images
        .import(archive(dir.path(), "demo:1", "one"))
        .await
        .expect("import");
    let newer = images
        .import(archive(dir.path(), "demo:1", "two"))
        .await
        .expect("import");
    let found = images
        .find("docker.io/library/demo:1")
        .await
        .expect("find")
        .expect("there");
    assert_eq!(found.id, newer[0].id);
    assert_eq!(
        images.list().await.expect("list").len(),
        2,
        "the older one stays, without a name"
    );
}

#[tokio::test]
async fn policies_and_names_fail_in_upstreams_words() {
    let dir = tempfile::tempdir().expect("temp dir");
    let images = open(dir.path());
    let never = images
        .ensure_present(&request("absent:1", PullPolicy::Never), None)
        .await
        .expect_err("absent");
    assert_eq!(never.reason(), "ErrImageNeverPull");
    let bad = images
        .ensure_present(&request("Bad Name", PullPolicy::Always), None)
        .await
        .expect_err("name");
    assert_eq!(bad.reason(), "InvalidImageName");
    // Port 1 on loopback: nobody listens, so this is refused at once.
    let gone = images
        .ensure_present(&request("127.0.0.1:1/x:1", PullPolicy::IfNotPresent), None)
        .await
        .expect_err("refused");
    assert!(gone.backs_off(), "{gone}");
}

#[tokio::test]
async fn an_image_cannot_have_a_host_directory_as_its_layer() {
    let dir = tempfile::tempdir().expect("temp dir");
    let victim = dir.path().join("victim");
    std::fs::create_dir(&victim).expect("victim");
    // In an archive, as a registry would send it.
    let config =
        serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [victim]}}).to_string();
    let manifest = r#"[{"Config": "c.json", "RepoTags": ["evil:1"], "Layers": ["l.tar"]}]"#;
    let path = dir.path().join("evil.tar");
    let mut out = tar::Builder::new(std::fs::File::create(&path).expect("archive"));
    for (name, bytes) in [
        ("manifest.json", manifest),
        ("c.json", &config),
        ("l.tar", ""),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        out.append_data(&mut header, name, bytes.as_bytes())
            .expect("entry");
    }
    out.finish().expect("finish");
    let error = open(dir.path()).import(path).await.expect_err("refused");
    assert!(error.to_string().contains("not a sha256 digest"), "{error}");
    // In a record that an earlier version kept.
    let record = ImageRecord {
        id: "sha256:evil".to_owned(),
        references: vec!["docker.io/library/evil:1".to_owned()],
        layers: vec![victim.clone()],
        ..ImageRecord::default()
    };
    let kept = dir.path().join("store/images/sha256-evil.json");
    std::fs::write(&kept, serde_json::to_vec(&record).expect("json")).expect("record");
    let images = open(dir.path());
    assert!(images.find("evil:1").await.expect("find").is_none());
    assert!(!kept.exists() && victim.exists());
}

/// A registry that wants Basic credentials, has no image, and tells what each request for a manifest carried.
async fn registry() -> (std::net::SocketAddr, mpsc::Receiver<Option<String>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let addr = listener.local_addr().expect("addr");
    let (told, seen) = mpsc::channel(16);
    corten_base::tasks::spawn(
        "test-registry",
        corten_base::tasks::TaskKind::Background,
        async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let carried = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("authorization")
                        .then(|| value.to_owned())
                });
                let status = if head.contains("/manifests/") {
                    told.send(carried).await.expect("the test listens");
                    "404 Not Found"
                } else {
                    "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\""
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        },
    );
    (addr, seen)
}

#[tokio::test]
async fn credentials_of_one_pull_are_not_used_by_the_next() {
    let dir = tempfile::tempdir().expect("temp dir");
    let images = open(dir.path());
    let (addr, mut seen) = registry().await;
    let image = format!("{addr}/team/app:1");
    let with = |user: &str| {
        let auths =
            serde_json::json!({"auths": {addr.to_string(): {"username": user, "password": "p"}}});
        let mut request = request(&image, PullPolicy::Always);
        request.secrets = vec![PullSecret::DockerConfigJson(auths.to_string().into_bytes())];
        request
    };
    let basic = |user: &str| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:p"));
        Some(format!("Basic {text}"))
    };
    for (request, expected) in [
        (with("first"), vec![basic("first"), None]),
        (with("second"), vec![basic("second"), None]),
        (request(&image, PullPolicy::Always), vec![None]),
    ] {
        images
            .ensure_present(&request, None)
            .await
            .expect_err("the registry has nothing");
        let mut carried = Vec::new();
        while let Ok(header) = seen.try_recv() {
            carried.push(header);
        }
        assert_eq!(carried, expected);
    }
}

#[tokio::test]
async fn a_full_disk_takes_unused_images_and_spares_the_others() {
    let dir = tempfile::tempdir().expect("temp dir");
    let images = open(dir.path());
    let mut ids = Vec::new();
    for (tag, content) in [("a:1", "one"), ("b:1", "two"), ("c:1", "three")] {
        let imported = images.import(archive(dir.path(), tag, content)).await;
        ids.push(imported.expect("import")[0].id.clone());
    }
    let thresholds = Thresholds {
        high: 85,
        low: 80,
        age_min: std::time::Duration::from_secs(120),
    };
    let used = HashSet::from([ids[0].clone()]);
    let in_use = || Ok(used.clone());
    let now = Instant::now();
    let full: &dyn Fn() -> std::io::Result<u8> = &|| Ok(99);
    let young = images.collect(thresholds, &in_use, full, now);
    assert!(young.expect("collect").is_empty(), "all are new");
    let later = now + std::time::Duration::from_secs(121);
    let below: &dyn Fn() -> std::io::Result<u8> = &|| Ok(84);
    let roomy = images.collect(thresholds, &in_use, below, later);
    assert!(roomy.expect("collect").is_empty(), "there is room");
    let pulling = images.gate.read().await;
    let busy = images.collect(thresholds, &in_use, full, later);
    assert!(busy.expect("collect").is_empty(), "an image is on its way");
    drop(pulling);
    let unknown = || Err(std::io::Error::other("unreadable"));
    assert!(images.collect(thresholds, &unknown, full, later).is_err());
    images.note(&ids[1]);
    images.last_used.lock().insert(ids[1].clone(), later); // asked for just now
    let mut gone = images
        .collect(thresholds, &in_use, full, later)
        .expect("collect");
    gone.sort();
    assert_eq!(gone, [ids[2].clone()]);
    let left: HashSet<String> = images
        .list()
        .await
        .expect("list")
        .into_iter()
        .map(|r| r.id)
        .collect();
    assert_eq!(left, HashSet::from([ids[0].clone(), ids[1].clone()]));
}

/// A registry with one image whose layer never comes to its end.
async fn stalling_registry() -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let digest = |text: &str| format!("sha256:{}", hex::encode(Sha256::digest(text)));
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest("layer")]}})
    .to_string();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest("blob"), "size": 1000}],
    })
    .to_string();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let addr = listener.local_addr().expect("addr");
    let answer = move |head: &str| {
        let whole = |kind: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        };
        if head.contains("/manifests/") {
            whole("application/vnd.oci.image.manifest.v1+json", &manifest)
        } else if head.contains(&digest("blob")) {
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe beginning".to_owned()
        } else if head.contains("/blobs/") {
            whole("application/octet-stream", &config)
        } else {
            whole("text/plain", "")
        }
    };
    let serving = async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let text = answer(&String::from_utf8_lossy(&head));
            let _ = stream.write_all(text.as_bytes()).await;
            if !text.contains("Connection: close") {
                open.push(stream); // held, so that the client waits for the rest
            }
        }
    };
    corten_base::tasks::spawn(
        "test-registry",
        corten_base::tasks::TaskKind::Background,
        serving,
    );
    addr
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("temp dir");
    let images = open(dir.path());
    let addr = stalling_registry().await;
    let tmp = dir.path().join("store/tmp");
    let has_begun = || {
        let written = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|e| e.metadata().is_ok_and(|m| m.len() > 0))
        };
        std::fs::read_dir(&tmp).expect("tmp").any(written)
    };
    let request = request(&format!("{addr}/app:1"), PullPolicy::Always);
    let mut pull = Box::pin(images.ensure_present(&request, None));
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    while !has_begun() {
        assert!(Instant::now() < deadline, "no byte of the layer came");
        let moment = std::time::Duration::from_millis(10);
        if let Ok(ended) = tokio::time::timeout(moment, &mut pull).await {
            panic!("the pull ended: {ended:?}");
        }
    }
    drop(pull);
    assert_eq!(std::fs::read_dir(&tmp).expect("tmp").count(), 0);
}
