//! Quotas of prefixes, as text: `/registry/events/=512MiB`.
//!
//! Invariant: what is not understood is a fault, never a quota of another size.

use super::PrefixQuota;

/// So many, since each is compared with every key that changes.
const QUOTAS_MAX: usize = 64;

pub(super) fn parse(texts: &[String], faults: &mut Vec<String>) -> Vec<PrefixQuota> {
    let mut quotas: Vec<PrefixQuota> = Vec::new();
    for text in texts {
        // The last one: keys may hold the sign.
        let parts = text.rsplit_once('=');
        let parsed = parts.and_then(|(prefix, size)| Some((prefix, size_of(size)?)));
        match parsed {
            Some((prefix, limit)) if !prefix.is_empty() && limit > 0 => {
                let prefix = bytes::Bytes::from(prefix.to_owned());
                if quotas.iter().any(|quota| quota.prefix == prefix) {
                    faults.push(format!("--prefix-quota: two for the prefix of {text:?}"));
                }
                quotas.push(PrefixQuota { prefix, limit });
            }
            _ => faults.push(format!(
                "--prefix-quota: {text:?} is not PREFIX=SIZE as in /registry/events/=512MiB"
            )),
        }
    }
    if quotas.len() > QUOTAS_MAX {
        faults.push(format!("--prefix-quota: more than {QUOTAS_MAX}"));
    }
    quotas
}

fn size_of(text: &str) -> Option<u64> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let unit = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1_u64));
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_or_refused() {
        let parsed = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            let mut faults = Vec::new();
            let quotas = parse(&texts, &mut faults);
            (quotas, faults)
        };
        let (quotas, faults) = parsed(&["/registry/events/=512MiB", "a=b=7"]);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(
            (&quotas[0].prefix[..], quotas[0].limit),
            (&b"/registry/events/"[..], 512 << 20)
        );
        assert_eq!((&quotas[1].prefix[..], quotas[1].limit), (&b"a=b"[..], 7));
        for bad in [
            "",
            "/a",
            "=5",
            "/a=",
            "/a=0",
            "/a=5MB",
            "/a=-1",
            "/a=99999999999999GiB",
        ] {
            assert_eq!(parsed(&[bad]).1.len(), 1, "{bad:?}");
        }
        assert_eq!(parsed(&["/a=1", "/a=2"]).1.len(), 1);
    }
}
