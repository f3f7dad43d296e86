//! A large file to a bucket, in parts.
//!
//! Invariant: the object appears whole or not at all, and parts of an upload that failed are given up.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ::http::Method;

use super::{PART_BYTES, S3, S3Error, page, xml};

/// S3 takes at most 10,000 parts.
const PARTS_MAX: u64 = 10_000;

pub(super) async fn put(s3: &S3, file: &Path, len: u64, name: &str) -> Result<(), S3Error> {
    let key = s3.key(name);
    let mut ask = s3.ask("begin the upload of", Method::POST, &key);
    ask.query("uploads", "");
    let upload = xml::text(&ask.text().await?, "UploadId").ok_or(S3Error::Answer {
        operation: "begin an upload",
        what: "an upload id",
    })?;
    let sent = send_parts(s3, file, len, &key, &upload).await;
    if sent.is_err() {
        let mut ask = s3.ask("give up the upload of", Method::DELETE, &key);
        ask.query("uploadId", &upload);
        if let Err(error) = ask.done().await {
            tracing::warn!(%error, "parts of an upload are left in the bucket");
        }
    }
    sent
}

async fn send_parts(
    s3: &S3,
    path: &Path,
    len: u64,
    key: &str,
    upload: &str,
) -> Result<(), S3Error> {
    let failed = |error| S3Error::File(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    let part_bytes = PART_BYTES.max(len.div_ceil(PARTS_MAX));
    let mut list = String::from("<CompleteMultipartUpload>");
    let mut offset = 0;
    for number in 1.. {
        if offset == len {
            break;
        }
        let size = part_bytes.min(len - offset);
        let size_here = usize::try_from(size).map_err(|error| failed(io::Error::other(error)))?;
        let mut body = vec![0; size_here];
        file.read_exact_at(&mut body, offset).map_err(failed)?;
        let mut ask = s3.ask("upload a part of", Method::PUT, key);
        ask.query("partNumber", &number.to_string());
        ask.query("uploadId", upload);
        ask.body = body.into();
        let answer = ask.response().await?;
        let tag = answer
            .headers()
            .get("etag")
            .and_then(|tag| tag.to_str().ok());
        let tag = tag.ok_or(S3Error::Answer {
            operation: "upload a part",
            what: "an etag",
        })?;
        let tag = xml::escape(tag);
        list.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        ));
        offset += size;
    }
    list.push_str("</CompleteMultipartUpload>");
    let mut ask = s3.ask("complete the upload of", Method::POST, key);
    ask.query("uploadId", upload);
    ask.body = list.into();
    // S3 may answer 200 at once and tell of a failure in the body.
    let answer = ask.text().await?;
    if !answer.contains("<Error>") {
        return Ok(());
    }
    let (code, message) = page::refusal(&answer);
    Err(S3Error::Refused {
        operation: "complete the upload of",
        key: key.to_owned(),
        status: ::http::StatusCode::OK,
        code,
        message,
    })
}
