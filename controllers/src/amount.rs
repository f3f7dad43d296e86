//! Amounts as strategies and budgets give them: a number, or a percentage of a total. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number, or that percentage of `total`. What is no percentage counts as none: validation lets no such text in.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(total);
            let value = if round_up {
                (product + 99) / 100
            } else {
                product / 100
            };
            i32::try_from(value).unwrap_or(i32::MAX)
        }
    }
}
