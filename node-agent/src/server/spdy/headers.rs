//! Header blocks of SPDY/3: length-prefixed pairs, compressed by one zlib stream per direction that starts from SPDY's
//! dictionary and lives as long as the connection.

use std::sync::OnceLock;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// Names and values of one block, names in lower case.
pub(super) type Headers = Vec<(String, String)>;

/// A block that unpacks to more than this is refused; real ones are under a kilobyte.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("header block is not valid: {0}")]
pub(super) struct HeaderError(&'static str);

/// The dictionary of SPDY/3 (section 2.6.10.1): header names with their lengths, then usual values.
fn dictionary() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut bytes = BytesMut::new();
        for word in WORDS.split('|') {
            bytes.put_u32(u32::try_from(word.len()).expect("short words"));
            bytes.put_slice(word.as_bytes());
        }
        bytes.put_slice(VALUES.as_bytes());
        bytes.to_vec()
    })
}

const WORDS: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|\
accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|content-language|\
content-length|content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|\
if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|\
proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|\
user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|\
keep-alive|origin";
const VALUES: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept \
Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// Reads the peer's blocks, in order.
pub(super) struct Decoder(Decompress);

impl Decoder {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        while !rest.is_empty() {
            if plain.len() >= BLOCK_BYTES_MAX {
                return Err(HeaderError("too large"));
            }
            plain.reserve(1024);
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let step = self
                .0
                .decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let used = usize::try_from(self.0.total_in() - before_in)
                .map_err(|_| HeaderError("too large"))?;
            rest = &rest[used..];
            match step {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(dictionary())
                        .map_err(|_| HeaderError("another dictionary"))?;
                }
                Err(_) => return Err(HeaderError("not zlib")),
                Ok(_) if used == 0 && self.0.total_out() == before_out => {
                    return Err(HeaderError("cut short"));
                }
                Ok(_) => {}
            }
        }
        parse(Bytes::from(plain))
    }
}

fn parse(mut plain: Bytes) -> Result<Headers, HeaderError> {
    let short = || HeaderError("cut short");
    let count = plain.try_get_u32().map_err(|_| short())?;
    let mut headers = Headers::new();
    let text = |plain: &mut Bytes| -> Result<String, HeaderError> {
        let length = plain.try_get_u32().map_err(|_| short())? as usize;
        if plain.len() < length {
            return Err(short());
        }
        String::from_utf8(plain.split_to(length).to_vec()).map_err(|_| HeaderError("not text"))
    };
    for _ in 0..count {
        let (name, value) = (text(&mut plain)?, text(&mut plain)?);
        headers.push((name.to_ascii_lowercase(), value));
    }
    Ok(headers)
}

/// Writes our blocks, in order.
pub(super) struct Encoder(Compress);

impl Encoder {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        compress
            .set_dictionary(dictionary())
            .expect("a fresh stream takes a dictionary");
        Self(compress)
    }

    pub(super) fn encode(&mut self, headers: &[(&str, &str)]) -> Bytes {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).expect("few headers"));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(u32::try_from(text.len()).expect("short headers"));
            plain.put_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 128);
        let mut rest = &plain[..];
        loop {
            out.reserve(128);
            let before = self.0.total_in();
            self.0
                .compress_vec(rest, &mut out, FlushCompress::Sync)
                .expect("memory is the only limit");
            let used = usize::try_from(self.0.total_in() - before).expect("no more than was given");
            rest = &rest[used..];
            // Room left over means that everything was flushed.
            if rest.is_empty() && out.len() < out.capacity() {
                return Bytes::from(out);
            }
        }
    }
}
