//! Ginkgo's JSON report, as far as the table needs it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What came of one test.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// All its texts, as the runner prints them.
    pub name: String,
    /// Ginkgo's word: passed, failed, skipped, timedout, panicked, interrupted, aborted.
    pub state: String,
    /// Wall clock.
    pub seconds: f64,
    /// The first line of why it failed.
    pub reason: String,
}

/// Reads the outcomes of all tests in a report.
pub fn read(path: &Path) -> Result<Vec<Outcome>> {
    let bytes = std::fs::read(path).with_context(|| {
        format!(
            "the runner left no report in {}; see the log beside it",
            path.display()
        )
    })?;
    Ok(parse(&serde_json::from_slice(&bytes)?))
}

fn parse(report: &Value) -> Vec<Outcome> {
    let suites = report.as_array().into_iter().flatten();
    let specs = suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    specs
        .filter(|spec| spec["LeafNodeType"] == "It")
        .map(outcome)
        .collect()
}

fn outcome(spec: &Value) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let around = spec["ContainerHierarchyTexts"].as_array();
    let mut words: Vec<String> = around.into_iter().flatten().map(text).collect();
    words.push(text(&spec["LeafNodeText"]));
    let message = text(&spec["Failure"]["Message"]);
    let reason = message.split_whitespace().collect::<Vec<_>>().join(" ");
    Outcome {
        name: words
            .join(" ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        state: text(&spec["State"]),
        // Nanoseconds.
        seconds: spec["RunTime"].as_f64().unwrap_or_default() / 1e9,
        reason: reason.chars().take(300).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_from_the_runners_report() {
        let report = serde_json::json!([{"SpecReports": [
            {"LeafNodeType": "BeforeSuite", "LeafNodeText": "", "State": "passed"},
            {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-apps] Job", " more "], "LeafNodeText": "should run  [Conformance]",
             "State": "failed", "RunTime": 1_500_000_000, "Failure": {"Message": "it\n  did not"}},
        ]}]);
        assert_eq!(
            parse(&report),
            [Outcome {
                name: "[sig-apps] Job more should run [Conformance]".to_owned(),
                state: "failed".to_owned(),
                seconds: 1.5,
                reason: "it did not".to_owned(),
            }]
        );
    }
}
