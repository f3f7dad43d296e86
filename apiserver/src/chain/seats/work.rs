//! How many seats a request takes: one, but for what goes through many objects.
//!
//! Upstream's numbers by count of objects. Invariant: at least one, and never more than [`SEATS_MAX`].

use super::Count;
use crate::request::{RequestInfo, query_value};

/// Objects that are gone through for one seat.
const OBJECTS_PER_SEAT: usize = 100;
/// No request is worth more.
const SEATS_MAX: u32 = 10;

/// How much of a resource a list or a watch goes through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Objects of one page; 0 for all.
    pub(crate) limit: usize,
    /// Whether a watch begins with all that exists.
    pub(crate) from_state: bool,
}

impl Reach {
    /// What a request's query says. What is wrong with it is told elsewhere.
    pub(crate) fn of_query(info: &RequestInfo, query: &str) -> Self {
        match info.verb.as_str() {
            "list" => Self {
                limit: query_value(query, "limit")
                    .and_then(|limit| limit.parse().ok())
                    .unwrap_or_default(),
                ..Self::default()
            },
            "watch" => {
                let initial = query_value(query, "sendInitialEvents");
                let revision = query_value(query, "resourceVersion");
                let asks = initial.is_some_and(|value| !matches!(&*value, "false" | "0"));
                Self {
                    from_state: asks || matches!(revision.as_deref(), None | Some("" | "0")),
                    ..Self::default()
                }
            }
            _ => Self::default(),
        }
    }
}

/// Seats for a request.
pub(super) fn seats(info: &RequestInfo, reach: Reach, objects: &Count) -> u32 {
    let goes_through = match info.verb.as_str() {
        "list" => true,
        "watch" => reach.from_state,
        _ => false,
    };
    // Whoever names one object gets that one.
    if !goes_through || !info.is_resource_request || !info.name.is_empty() {
        return 1;
    }
    let all = objects(&info.api_group, &info.resource);
    let selects = info.label_selector.is_some() || info.field_selector.is_some();
    let count = match reach.limit {
        0 => all,
        // A page of what is selected may be looked for among all.
        _ if selects => all,
        limit => all.min(limit),
    };
    let seats = u32::try_from(count.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(SEATS_MAX);
    seats.clamp(1, SEATS_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, Uri};

    use super::*;

    #[test]
    fn what_goes_through_many_objects_takes_many_seats() {
        let objects: Count = Arc::new(|_, resource| match resource {
            "pods" => 450,
            "events" => 100_000,
            _ => 0,
        });
        let cases = [
            ("GET", "/api/v1/pods", 5),
            ("GET", "/api/v1/namespaces/a/pods", 5),
            ("GET", "/api/v1/pods?limit=120", 2),
            ("GET", "/api/v1/pods?limit=120&labelSelector=a%3Db", 5),
            ("GET", "/api/v1/pods?limit=many", 5),
            ("GET", "/api/v1/events", 10),
            ("GET", "/api/v1/secrets", 1),
            ("GET", "/api/v1/namespaces/a/pods/p", 1),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dp", 1),
            ("GET", "/api/v1/pods?watch=true", 5),
            ("GET", "/api/v1/pods?watch=true&resourceVersion=0", 5),
            ("GET", "/api/v1/pods?watch=true&resourceVersion=7", 1),
            (
                "GET",
                "/api/v1/pods?watch=1&resourceVersion=7&sendInitialEvents=true",
                5,
            ),
            ("POST", "/api/v1/namespaces/a/pods", 1),
            ("DELETE", "/api/v1/namespaces/a/pods", 1),
            ("GET", "/livez", 1),
        ];
        for (method, uri, expected) in cases {
            let method: Method = method.parse().expect("a method");
            let uri: Uri = uri.parse().expect("a path");
            let info = RequestInfo::resolve(&method, &uri);
            let reach = Reach::of_query(&info, uri.query().unwrap_or_default());
            assert_eq!(seats(&info, reach, &objects), expected, "{uri}");
        }
    }
}
