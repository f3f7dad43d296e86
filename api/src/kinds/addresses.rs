//! IP addresses and ranges of addresses as the API reads them.
//!
//! Old fields take forms that not everybody reads alike (leading zeros, bits behind the prefix) and warn of them; new
//! fields take the canonical form alone.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::names::{NOT_A_CIDR, NOT_AN_IP};
use super::{Errors, Path};
use crate::quote::quote;

/// An address as old fields take it: octets may have leading zeros.
pub fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?;
    }
    parts
        .next()
        .is_none()
        .then(|| Ipv4Addr::from(octets).into())
}

/// A range as old fields take it: any address in it, and a length.
pub fn sloppy_range(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    IpNet::new(sloppy_ip(address)?, decimal(length)?).ok()
}

fn decimal(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.trim_start_matches('0') {
        _ if !digits => None,
        "" => Some(0),
        number => number.parse().ok(),
    }
}

/// The range, when nobody can read it in two ways.
fn strict_range(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let zeros = length.len() > 1 && length.starts_with('0');
    let address: IpAddr = address.parse().ok()?;
    (!zeros)
        .then(|| IpNet::new(address, decimal(length)?).ok())
        .flatten()
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// What keeps a text from being an address in its canonical form.
pub fn ip_faults(text: &str) -> Vec<String> {
    let Some(address) = sloppy_ip(text) else {
        return vec![NOT_AN_IP.to_owned()];
    };
    if text.parse::<IpAddr>().is_err() {
        return vec!["must not have leading 0s".to_owned()];
    }
    if is_mapped(address) {
        return vec!["must not be an IPv4-mapped IPv6 address".to_owned()];
    }
    canonical(text, &address.to_string())
}

/// Checks that a text is a range of addresses in its canonical form.
pub fn validate_range(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let faults = match (sloppy_range(text), strict_range(text)) {
        (None, _) => vec![NOT_A_CIDR.to_owned()],
        (Some(_), None) => vec!["must not have leading 0s in IP or prefix length".to_owned()],
        (_, Some(range)) if is_mapped(range.addr()) => {
            vec!["must not have an IPv4-mapped IPv6 address".to_owned()]
        }
        (_, Some(range)) if range != range.trunc() => {
            vec!["must not have bits set beyond the prefix length".to_owned()]
        }
        (_, Some(range)) => canonical(text, &range.to_string()),
    };
    errors.invalid_each(path, text, faults);
}

fn canonical(text: &str, form: &str) -> Vec<String> {
    if text == form {
        return Vec::new();
    }
    vec![format!("must be in canonical form ({})", quote(form))]
}

/// What a client is to hear of a range in an old field that others may read differently.
pub fn range_warnings(text: &str, path: &Path<'_>) -> Vec<String> {
    let Some(range) = sloppy_range(text) else {
        return Vec::new();
    };
    let (at, shown) = (path.to_field_path(), quote(text));
    let mut warnings = Vec::new();
    let whole = range.trunc();
    let net = quote(&whole.to_string());
    if range != whole {
        let single = format!("{}/{}", range.addr().to_canonical(), range.max_prefix_len());
        warnings.push(format!(
            "{at}: CIDR value {shown} is ambiguous in this context (should be {net} or {}?)",
            quote(&single)
        ));
    }
    let strict = strict_range(text).filter(|range| !is_mapped(range.addr()));
    match strict {
        None => warnings.push(format!(
            "{at}: non-standard CIDR value {shown} will be considered invalid in a future Kubernetes release: use {net}"
        )),
        Some(range) if warnings.is_empty() && range.to_string() != text => warnings.push(format!(
            "{at}: IPv6 CIDR value {shown} should be in RFC 5952 canonical format ({})",
            quote(&range.to_string())
        )),
        Some(_) => {}
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        let cases = [
            ("10.9.8.7", ""),
            ("2001:db8::1", ""),
            ("10.9.8", NOT_AN_IP),
            ("10.9.8.256", NOT_AN_IP),
            ("10.9.8.+1", NOT_AN_IP),
            ("010.9.8.7", "must not have leading 0s"),
            ("::ffff:10.9.8.7", "must not be an IPv4-mapped IPv6 address"),
            ("2001:DB8::1", "must be in canonical form (\"2001:db8::1\")"),
        ];
        for (text, expected) in cases {
            assert_eq!(ip_faults(text).join(";"), expected, "{text}");
        }
    }

    #[test]
    fn ranges_have_one_form() {
        let cases = [
            ("10.9.8.0/24", ""),
            ("2001:db8::/64", ""),
            ("10.9.8.0", NOT_A_CIDR),
            ("10.9.8.0/33", NOT_A_CIDR),
            (
                "10.9.8.0/024",
                "must not have leading 0s in IP or prefix length",
            ),
            (
                "10.9.8.7/24",
                "must not have bits set beyond the prefix length",
            ),
            (
                "2001:DB8::/64",
                "must be in canonical form (\"2001:db8::/64\")",
            ),
        ];
        for (text, expected) in cases {
            let mut errors = Errors::new();
            validate_range(text, &Path::new("a"), &mut errors);
            let found: Vec<String> = errors.finish().into_iter().map(|e| e.detail).collect();
            assert_eq!(found.join(";"), expected, "{text}");
        }
    }

    #[test]
    fn old_fields_warn() {
        let cases = [
            ("10.0.0.0/8", ""),
            (
                "10.0.0.5/8",
                "a: CIDR value \"10.0.0.5/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.5/32\"?)",
            ),
            (
                "010.0.0.0/8",
                "a: non-standard CIDR value \"010.0.0.0/8\" will be considered invalid in a future Kubernetes release: \
                 use \"10.0.0.0/8\"",
            ),
            (
                "FD00::/8",
                "a: IPv6 CIDR value \"FD00::/8\" should be in RFC 5952 canonical format (\"fd00::/8\")",
            ),
        ];
        for (text, expected) in cases {
            let warnings = range_warnings(text, &Path::new("a"));
            assert_eq!(warnings.join(";"), expected, "{text}");
        }
    }
}
