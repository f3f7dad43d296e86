//! The end of a container: waiting for it, and what is told of it.
//!
//! Invariant: however much a container has written, only the end of it is read.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Container as ContainerSpec;

use super::Shared;
use crate::pod::Event;
use crate::pod::types::Exit;
use crate::runtime::Container;
use crate::supervisor::record::ExitRecord;

/// Longest termination message, in bytes.
const MESSAGE_MAX: u64 = 4096;
/// Where the end of a log is looked for, in bytes: the lines in it carry their times.
const LOG_TAIL_READ: u64 = 64 * 1024;
/// What is taken from the end of a log instead, in bytes and lines.
const LOG_TAIL: (usize, usize) = (2048, 80);

/// Waits for the end of a running container and reports it.
pub(super) async fn follow(shared: Arc<Shared>, spec: ContainerSpec, attempt: u32) {
    let container = shared.container(&spec.name, attempt);
    match shared.context.runtime.wait(&container).await {
        Ok(exit) => report_exit(&shared, &spec, attempt, exit).await,
        Err(error) => {
            tracing::error!(pod = %shared.pod_ref, container = spec.name, %error, "lost sight of it");
        }
    }
}

/// Tells the worker how a run ended.
pub(super) async fn report_exit(
    shared: &Shared,
    spec: &ContainerSpec,
    attempt: u32,
    record: ExitRecord,
) {
    let container = shared.container(&spec.name, attempt);
    let exit = exit_of(shared, spec, attempt, &container, record);
    let event = Event::Exited {
        container: spec.name.clone(),
        attempt,
        id: container.id,
        exit,
    };
    let _ = shared.sender.send(event).await;
}

/// The record of a run with its termination message.
pub(super) fn exit_of(
    shared: &Shared,
    spec: &ContainerSpec,
    attempt: u32,
    container: &Container,
    record: ExitRecord,
) -> Exit {
    let text = read_slice(
        &container.dir.termination_log(),
        SeekFrom::Start(0),
        MESSAGE_MAX,
    );
    let mut message = String::from_utf8_lossy(&text).into_owned();
    let falls_back = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if message.is_empty() && falls_back && record.exit_code != 0 {
        message = log_tail(
            &shared
                .context
                .log_path(&shared.pod_ref, &spec.name, attempt),
        );
    }
    Exit {
        exit_code: record.exit_code,
        signal: record.signal,
        oom_killed: record.oom_killed,
        started_at: record.started_at,
        finished_at: record.finished_at,
        start_error: record.start_error,
        lost: record.lost,
        message: (!message.is_empty()).then_some(message),
    }
}

/// At most `limit` bytes of a file from a position on; a container may have made it as large as the disk, or larger.
fn read_slice(path: &Path, from: SeekFrom, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        file.seek(from)?;
        file.take(limit).read_to_end(&mut bytes)
    });
    // A file that cannot be read says as much as an empty one.
    read.map(|_| bytes).unwrap_or_default()
}

fn log_tail(path: &Path) -> String {
    let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
    let from = SeekFrom::Start(length.saturating_sub(LOG_TAIL_READ));
    let text = String::from_utf8_lossy(&read_slice(path, from, LOG_TAIL_READ)).into_owned();
    // A line in pieces ends with its last one; what a container left without an end of line stays so.
    let mut lines: Vec<String> = vec![String::new()];
    for line in text.lines() {
        let mut parts = line.splitn(4, ' ').skip(2);
        let (Some(tag), Some(content)) = (parts.next(), parts.next()) else {
            continue;
        };
        let last = lines.last_mut().expect("there is always one");
        last.push_str(content);
        if tag != "P" {
            last.push('\n');
            lines.push(String::new());
        }
    }
    lines.retain(|line| !line.is_empty());
    let mut tail = lines
        .split_off(lines.len().saturating_sub(LOG_TAIL.1))
        .concat();
    let mut from = tail.len().saturating_sub(LOG_TAIL.0);
    while !tail.is_char_boundary(from) {
        from += 1;
    }
    tail.split_off(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_termination_log_is_not_read_whole() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("termination-log");
        let file = std::fs::File::create(&path).expect("file");
        file.set_len(1 << 40).expect("a sparse file");
        let text = read_slice(&path, SeekFrom::Start(0), MESSAGE_MAX);
        assert_eq!(text.len() as u64, MESSAGE_MAX);
        assert!(log_tail(&path).len() <= LOG_TAIL.0);
        std::fs::write(
            &path,
            "t stderr F one\nt stdout P two \nt stdout P and more\n",
        )
        .expect("a log");
        assert_eq!(log_tail(&path), "one\ntwo and more");
        assert!(read_slice(&dir.path().join("absent"), SeekFrom::Start(0), 1).is_empty());
    }
}
