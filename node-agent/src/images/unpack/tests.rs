//! Layers made in the test: whiteouts, compression, digests, and archives that try to climb out.

use super::*;

fn layer(entries: &[(&str, &[u8])]) -> (Vec<u8>, String) {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        // Set raw, since the builder refuses what hostile archives hold.
        header.as_gnu_mut().expect("gnu").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, *content).expect("append");
    }
    let bytes = builder.into_inner().expect("finish");
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    (bytes, digest)
}

#[test]
fn files_and_whiteouts_in_every_compression() {
    let (bytes, digest) = layer(&[
        ("etc/conf", b"x"),
        ("etc/.wh.gone", b""),
        ("var/.wh..wh..opq", b""),
    ]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, &bytes).expect("gzip");
    let zst = zstd::encode_all(&bytes[..], 1).expect("zstd");
    for blob in [bytes.clone(), gz.finish().expect("gzip"), zst] {
        let dir = tempfile::tempdir().expect("temp dir");
        let into = dir.path().join("layer");
        unpack(&blob[..], &into, &digest).expect("unpacks");
        assert_eq!(std::fs::read(into.join("etc/conf")).expect("file"), b"x");
        let meta = std::fs::symlink_metadata(into.join("etc/gone")).expect("whiteout");
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(
            &meta.file_type()
        ));
        assert_eq!(
            xattr::get(into.join("var"), "trusted.overlay.opaque").expect("attribute"),
            Some(b"y".to_vec())
        );
    }
}

#[test]
fn a_wrong_digest_is_refused() {
    let (bytes, _) = layer(&[("a", b"1")]);
    let dir = tempfile::tempdir().expect("temp dir");
    let other = format!("sha256:{}", "0".repeat(64));
    let error = unpack(&bytes[..], &dir.path().join("l"), &other).expect_err("refused");
    assert!(matches!(error, UnpackError::Digest { .. }), "{error}");
}

#[test]
fn nothing_is_written_outside_the_layer() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (bytes, digest) = layer(&[("../escaped", b"1"), ("/abs", b"2"), ("../.wh.victim", b"")]);
    std::fs::write(dir.path().join("victim"), b"v").expect("victim");
    let into = dir.path().join("layer");
    unpack(&bytes[..], &into, &digest).expect("unpacks what is inside");
    assert!(!dir.path().join("escaped").exists());
    assert!(dir.path().join("victim").exists());
    assert!(into.join("abs").exists());
}

#[test]
fn a_link_that_leads_out_is_not_followed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).expect("dir");
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_uid(0);
    link.set_gid(0);
    link.set_mtime(0);
    builder
        .append_link(&mut link, "way", &outside)
        .expect("link");
    let mut file = tar::Header::new_gnu();
    file.set_size(1);
    file.set_uid(0);
    file.set_gid(0);
    file.set_mtime(0);
    file.set_mode(0o644);
    builder
        .append_data(&mut file, "way/file", &b"x"[..])
        .expect("file");
    let bytes = builder.into_inner().expect("finish");
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    assert!(unpack(&bytes[..], &dir.path().join("layer"), &digest).is_err());
    assert!(!outside.join("file").exists());
}
