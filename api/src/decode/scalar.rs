//! Scalars that have a text of their own: quantities, times, bytes. Each function answers the canonical text or Go's words for
//! what is wrong with it. Invariant: a canonical text is answered unchanged.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::meta;
use crate::quantity::Quantity;
use crate::quote::quote;

/// Go's decoder: padding is demanded, stray bits in the last character are not minded.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

pub(super) fn quantity(text: &str) -> Result<String, String> {
    let quantity: Result<Quantity, _> = text.trim().parse();
    quantity
        .map(|quantity| quantity.to_string())
        .map_err(|error| error.to_string())
}

pub(super) fn time(text: &str) -> Result<String, String> {
    let time =
        meta::parse_time(text).ok_or_else(|| time_error(text, "2006-01-02T15:04:05Z07:00"))?;
    Ok(meta::format_time(time))
}

/// More lenient than upstream, which demands exactly six digits of fraction.
pub(super) fn micro_time(text: &str) -> Result<String, String> {
    let time = meta::parse_time(text)
        .ok_or_else(|| time_error(text, "2006-01-02T15:04:05.000000Z07:00"))?;
    Ok(meta::format_micro_time(time))
}

/// What Go says of a time that does not fit the layout.
fn time_error(text: &str, layout: &str) -> String {
    const ELEMENTS: [&str; 12] = [
        "2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05", "Z07:00",
    ];
    let whole = quote(text);
    let mut rest = text;
    for element in ELEMENTS {
        let fits = match element {
            "Z07:00" => false,
            digits if digits.starts_with(|c: char| c.is_ascii_digit()) => rest
                .get(..digits.len())
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())),
            sign => rest.starts_with(sign),
        };
        if !fits {
            let rest = quote(rest);
            return format!(
                "parsing time {whole} as \"{layout}\": cannot parse {rest} as \"{element}\""
            );
        }
        rest = &rest[element.len()..];
    }
    format!("parsing time {whole}: day out of range")
}

pub(super) fn bytes(text: &str) -> Result<String, String> {
    let cleaned;
    let mut encoded = text;
    if text.contains(['\r', '\n']) {
        cleaned = text.replace(['\r', '\n'], "");
        encoded = &cleaned;
    }
    match BASE64.decode(encoded) {
        // Only then can the text differ from what we would write.
        Ok(bytes) if encoded.ends_with('=') => Ok(BASE64.encode(bytes)),
        Ok(_) => Ok(encoded.to_owned()),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) => at,
                _ => encoded.trim_end_matches('=').len() / 4 * 4,
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}
