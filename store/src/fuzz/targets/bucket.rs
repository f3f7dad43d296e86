//! What a bucket of S3 answers, which may be anybody's server.

use super::super::run;
use super::nothing;
use crate::archive::read_bucket_for_tests as read;

/// More letters of a bucket than this reach neither a log nor a terminal.
const WORDS_MAX: usize = 1024;

#[test]
fn answers_of_a_bucket() {
    let page = br#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Name>box</Name><Prefix>p/</Prefix><IsTruncated>true</IsTruncated><NextContinuationToken>t&#x31;&amp;2</NextContinuationToken>
        <Contents><Key>p/corten-1.corten</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>77</Size></Contents>
        <Contents><Key>p/deep/&lt;er&gt;</Key><Size>18446744073709551615</Size></Contents></ListBucketResult>"#;
    let refusal = br#"<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Not &quot;you&quot;</Message></Error>"#;
    let upload = b"<InitiateMultipartUploadResult><UploadId>a&amp;b</UploadId></InitiateMultipartUploadResult>";
    let long = [
        &b"<Error><Code>x</Code><Message>"[..],
        &[b'&'; 40_000],
        b"</Message></Error>",
    ]
    .concat();
    let corpus = [page.to_vec(), refusal.to_vec(), upload.to_vec(), long];
    let (names, _) = read(&String::from_utf8_lossy(page), "p/");
    assert_eq!(names.expect("a page"), ["corten-1.corten"]);
    run("answers of a bucket", &corpus, nothing, |bytes| {
        let (names, words) = read(&String::from_utf8_lossy(bytes), "p/");
        for name in names.into_iter().flatten() {
            assert!(!name.is_empty() && !name.contains('/'), "{name:?}");
        }
        assert!(words.chars().count() <= WORDS_MAX, "{}", words.len());
        assert!(!words.contains(char::is_control), "{words:?}");
    });
}
