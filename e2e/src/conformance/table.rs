//! The table of every test: its newest result, how long it took, and in a word what is missing.
//!
//! `e2e/conformance/results.tsv` is the record, docs/conformance.md is made of it. Invariant: a row changes only when its
//! test ran.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Content;
use super::report::Outcome;

const RECORD: &str = "e2e/conformance/results.tsv";
/// `<part of a test's name>\t<what is missing>`; the first line that fits is told.
const MISSING: &str = "e2e/conformance/missing.tsv";
const PAGE: &str = "docs/conformance.md";

/// One test of the record.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    /// `passed`, `failed`, or empty when it has not run.
    result: String,
    seconds: String,
    content: String,
    /// The commit that was judged.
    commit: String,
}

/// Puts the outcomes into the record and makes the page again.
pub fn update(
    project: &Path,
    all: &[String],
    outcomes: &[Outcome],
    content: Content,
) -> Result<()> {
    let record = project.join(RECORD);
    let mut rows = parse(&std::fs::read_to_string(&record).unwrap_or_default());
    rows.retain(|name, _| all.contains(name));
    let commit = commit(project)?;
    for name in all {
        rows.entry(name.clone()).or_default();
    }
    for outcome in outcomes {
        let passed = outcome.state == "passed";
        let row = Row {
            result: if passed { "passed" } else { "failed" }.to_owned(),
            seconds: format!("{:.1}", outcome.seconds),
            content: format!("{content:?}").to_lowercase(),
            commit: commit.clone(),
        };
        rows.insert(outcome.name.clone(), row);
    }
    std::fs::write(&record, print(&rows))?;
    let missing = std::fs::read_to_string(project.join(MISSING)).unwrap_or_default();
    std::fs::write(project.join(PAGE), page(&rows, &missing))?;
    Ok(())
}

fn commit(project: &Path) -> Result<String> {
    let out = Command::new("git")
        .args(["rev-parse", "--short=9", "HEAD"])
        .current_dir(project)
        .output()
        .context("git")?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn parse(text: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let mut cells = line.split('\t').map(str::to_owned);
        let mut next = || cells.next().unwrap_or_default();
        let name = next();
        let row = Row {
            result: next(),
            seconds: next(),
            content: next(),
            commit: next(),
        };
        rows.insert(name, row);
    }
    rows
}

fn print(rows: &BTreeMap<String, Row>) -> String {
    let mut text = String::new();
    for (name, row) in rows {
        let Row {
            result,
            seconds,
            content,
            commit,
        } = row;
        let _ = writeln!(text, "{name}\t{result}\t{seconds}\t{content}\t{commit}");
    }
    text
}

/// `[sig-apps] Job ...` belongs to `sig-apps`.
fn sig(name: &str) -> &str {
    let end = name.find(']').unwrap_or(name.len());
    name.get(1..end).unwrap_or(name)
}

fn page(rows: &BTreeMap<String, Row>, missing: &str) -> String {
    let mut text = "# Conformance\n\nMade by `make conformance`, from what upstream's own suite (e2e.test of Kubernetes v1.35.0, unmodified) said when it ran \
                    against a lab.\nEach row is the newest run of that test; \"not yet\" has not run. `FOCUS=` runs some, and changes only their rows.\n\n\
                    | sig | tests | passed | failed | not yet |\n|---|---|---|---|---|\n"
        .to_owned();
    let mut sigs: BTreeMap<&str, Vec<(&String, &Row)>> = BTreeMap::new();
    for (name, row) in rows {
        sigs.entry(sig(name)).or_default().push((name, row));
    }
    let count = |of: &[(&String, &Row)], result: &str| {
        of.iter().filter(|(_, row)| row.result == result).count()
    };
    let line = |text: &mut String, name: &str, of: &[(&String, &Row)]| {
        let (passed, failed, not) = (count(of, "passed"), count(of, "failed"), count(of, ""));
        let _ = writeln!(
            text,
            "| {name} | {} | {passed} | {failed} | {not} |",
            of.len()
        );
    };
    for (name, of) in &sigs {
        line(&mut text, name, of);
    }
    let all: Vec<_> = rows.iter().collect();
    line(&mut text, "all", &all);
    for (name, of) in &sigs {
        let _ = write!(
            text,
            "\n## {name}\n\n| test | result | seconds | clients speak | commit | missing |\n|---|---|---|---|---|---|\n"
        );
        for (name, row) in of {
            let _ = writeln!(text, "{}", row_line(name, row, missing));
        }
    }
    text
}

fn row_line(name: &str, row: &Row, missing: &str) -> String {
    let result = if row.result.is_empty() {
        "not yet"
    } else {
        &row.result
    };
    let why = missing
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .find(|(part, _)| name.contains(part))
        .map_or(String::new(), |(_, why)| {
            // Some tests end well as soon as what they need cannot be made.
            let early = if row.result == "passed" {
                "ended early: "
            } else {
                ""
            };
            format!("{early}{why}")
        });
    let short = name.split_once("] ").map_or(name, |(_, rest)| rest);
    format!(
        "| {} | {result} | {} | {} | {} | {why} |",
        short.replace('|', "\\|"),
        row.seconds,
        row.content,
        row.commit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_rows_tell_what_is_missing() {
        let text =
            "[sig-apps] Job should run\tfailed\t2.0\tjson\tabc\n[sig-cli] Kubectl logs\t\t\t\t\n";
        let rows = parse(text);
        assert_eq!(print(&rows), text);
        let page = page(&rows, "Job\tJobs\n");
        assert!(page.contains("| sig-apps | 1 | 0 | 1 | 0 |"), "{page}");
        assert!(page.contains("| Job should run | failed | 2.0 | json | abc | Jobs |"));
        assert!(page.contains("| Kubectl logs | not yet |  |  |  |  |"));
    }
}
