//! hostPath: the check that its `type` asks for, and what "OrCreate" makes.

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use crate::traits::PreparedVolume;

pub(super) fn prepare(source: &HostPathVolumeSource) -> Result<PreparedVolume, String> {
    let path = Path::new(&source.path);
    let wanted = source.type_.as_deref().unwrap_or_default();
    let failed = |error: std::io::Error| format!("cannot make {}: {error}", path.display());
    match wanted {
        "DirectoryOrCreate" if !path.exists() => {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(failed)?;
        }
        "FileOrCreate" if !path.exists() => {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(path)
                .map_err(failed)?;
        }
        // Without a type nothing is checked; what does not exist is made, as upstream's runtimes do.
        "" if !path.exists() => std::fs::create_dir_all(path).map_err(failed)?,
        _ => {}
    }
    let meta = std::fs::metadata(path).map_err(|error| {
        format!(
            "hostPath type check failed: {} is not a {}: {error}",
            path.display(),
            describe(wanted)
        )
    })?;
    let kind = meta.file_type();
    let fits = match wanted {
        "Directory" | "DirectoryOrCreate" => kind.is_dir(),
        "File" | "FileOrCreate" => kind.is_file(),
        "Socket" => kind.is_socket(),
        "CharDevice" => kind.is_char_device(),
        "BlockDevice" => kind.is_block_device(),
        _ => true,
    };
    if !fits {
        return Err(format!(
            "hostPath type check failed: {} is not a {}",
            path.display(),
            describe(wanted)
        ));
    }
    Ok(PreparedVolume {
        host_path: path.to_owned(),
        read_only: false,
        is_file: !kind.is_dir(),
    })
}

fn describe(wanted: &str) -> &'static str {
    match wanted {
        "Directory" | "DirectoryOrCreate" => "directory",
        "File" | "FileOrCreate" => "file",
        "Socket" => "socket file",
        "CharDevice" => "character device",
        "BlockDevice" => "block device",
        _ => "path",
    }
}
