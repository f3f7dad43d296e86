//! Tests of quantities: a table of texts and laws. Invariant: expectations are those of upstream's own library.

use super::*;
use proptest::prelude::*;

#[test]
fn canonical_texts() {
    for (text, want) in [
        ("0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1000Ki", "1000Ki"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.0005Ki", "512m"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1E", "1E"),
        ("1e-3", "1e-3"),
        ("12e6", "12e6"),
        ("1.1e6", "1100e3"),
        ("1000k", "1M"),
        ("1000000", "1M"),
        ("123456789", "123456789"),
        ("0.0001", "100u"),
        ("0.1n", "1n"),
        ("1.5n", "2n"),
        ("-1.5n", "-2n"),
        ("-0.5Gi", "-512Mi"),
        ("9223372036854775808", "9223372036854775808"),
        ("10E", "10E"),
        ("10Ei", "9223372036854775807"),
        ("-10Ei", "-9223372036854775807"),
        ("+5", "5"),
        (".5", "500m"),
        ("5.", "5"),
        (".", "0"),
        ("+", "0"),
        ("m", "0"),
        ("0Mi", "0"),
        ("000.500", "500m"),
        ("1e19", "10e18"),
        ("1e-10", "1e-9"),
        ("1.5e1", "15"),
        ("1e+3", "1e3"),
        ("1.2345678901Gi", "1325607178167805543n"),
        ("3.3Mi", "3460300800m"),
        ("1000n", "1u"),
        ("3.000000001m", "3000001n"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("1.1Ei", "1268213655067531673600m"),
        ("1023Ki", "1023Ki"),
        ("2048.5", "2048500m"),
        ("1e-4", "100e-6"),
        ("-0", "0"),
        ("1e21", "1e21"),
    ] {
        let quantity: Quantity = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(quantity.to_string(), want, "{text}");
    }
}

#[test]
fn refused_texts() {
    for text in ["", "1KI", "1 Gi", " 1", "1e3e", "0x10", "a", "1.2.3"] {
        assert_eq!(
            text.parse::<Quantity>().err(),
            Some(QuantityError::Form),
            "{text}"
        );
    }
    for text in [
        "1mi",
        "1e",
        "1ee3",
        "1Gim",
        "1i",
        "1m5",
        "1-",
        "1e-",
        "1e99999999999",
    ] {
        assert_eq!(
            text.parse::<Quantity>().err(),
            Some(QuantityError::Suffix),
            "{text}"
        );
    }
    assert_eq!(
        Quantity::from_json(&serde_json::json!(true)).err(),
        Some(QuantityError::Type)
    );
    assert_eq!(
        Quantity::from_json(&serde_json::json!(1.5)).map(|q| q.to_string()),
        Ok("1500m".to_owned())
    );
}

#[test]
fn values_round_away_from_zero() {
    for (text, value, milli) in [
        ("0.5", 1, 500),
        ("-1.5", -2, -1500),
        ("-0.0015", -1, -2),
        ("1500u", 1, 2),
        ("1n", 1, 1),
        ("3.3Mi", 3_460_301, 3_460_300_800),
        ("100Ei", i64::MAX, i64::MAX),
    ] {
        let quantity: Quantity = text.parse().expect("valid");
        assert_eq!(
            (quantity.value(), quantity.milli_value()),
            (value, milli),
            "{text}"
        );
    }
}

#[test]
fn sums_keep_the_first_format() {
    for (a, b, sum, difference) in [
        ("1Gi", "100m", "1073741824100m", "1073741823900m"),
        ("1", "1Gi", "1073741825", "-1073741823"),
        ("0", "1Gi", "1Gi", "-1Gi"),
        ("500m", "0.5", "1", "0"),
        ("1Gi", "1Mi", "1025Mi", "1023Mi"),
        ("1e3", "5", "1005", "995"),
        ("8Ei", "8Ei", "18446744073709551614", "0"),
    ] {
        let (a, b): (Quantity, Quantity) = (a.parse().expect("valid"), b.parse().expect("valid"));
        assert_eq!(
            ((a + b).to_string(), (a - b).to_string()),
            (sum.to_owned(), difference.to_owned())
        );
    }
}

#[test]
fn huge_exponents_are_cheap() {
    for text in [
        "1e2147483647",
        "-1e2147483647",
        "1e-2147483648",
        &"9".repeat(100_000),
    ] {
        let quantity: Quantity = text.parse().expect("valid");
        assert!(quantity.to_string().len() < 60);
    }
}

proptest! {
    #[test]
    fn canonical_text_reads_back(digits in 0_u64..u64::MAX, point in 0_usize..12, suffix in "(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-9|e-4|e1|e7)", negative: bool) {
        let mut text = format!("{digits:020}");
        text.insert(20 - point, '.');
        let text = format!("{}{text}{suffix}", if negative { "-" } else { "" });
        let quantity: Quantity = text.parse().expect("well formed");
        let canonical = quantity.to_string();
        let again: Quantity = canonical.parse().expect("canonical text is well formed");
        prop_assert_eq!(again, quantity);
        prop_assert_eq!(again.to_string(), canonical);
    }

    #[test]
    fn addition_is_a_sum(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
        let (qa, qb) = (Quantity::from_milli(a), Quantity::from_milli(b));
        prop_assert_eq!((qa + qb).milli_value(), a + b);
        prop_assert_eq!((qa - qb) + qb, qa);
        prop_assert_eq!(qa.cmp(&qb), a.cmp(&b));
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,24}") {
        prop_assert!(text.parse::<Quantity>().is_ok() || text.parse::<Quantity>().is_err());
    }
}
