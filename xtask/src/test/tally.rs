//! Counting tests by the lines that end each test program's report.

use std::fmt;

/// How many tests passed, failed and were ignored so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Adds what `line` says, if it is the line that ends a test program's report:
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
    /// Node's reports end with `# pass 12` and `# fail 0`.
    pub(super) fn read(&mut self, line: &str) {
        for (of_node, count) in [("# pass ", &mut self.passed), ("# fail ", &mut self.failed)] {
            let number = line
                .strip_prefix(of_node)
                .and_then(|rest| rest.parse().ok());
            *count += number.unwrap_or(0);
        }
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// Counts a section that failed as one failure, unless its own tests, of which
    /// `failed_before` had failed when it began, were counted already.
    pub(super) fn count_failed_section(&mut self, failed_before: u64) {
        if self.failed == failed_before {
            self.failed += 1;
        }
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn ignored(&self) -> u64 {
        self.ignored
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_of_several_test_programs_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished",
            "test result: FAILED. 10 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
            "a test printed: test result: ok. 99 passed",
        ] {
            tally.read(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 12,
                failed: 3,
                ignored: 1
            }
        );
        assert_eq!(tally.to_string(), "12 passed, 3 failed");
    }

    #[test]
    fn a_failed_section_is_counted_once() {
        let mut tally = Tally::default();
        tally.count_failed_section(0);
        assert_eq!(tally.failed(), 1);
        let before = tally.failed();
        tally.read("test result: FAILED. 0 passed; 2 failed; 0 ignored");
        tally.count_failed_section(before);
        assert_eq!(tally.failed(), 3);
    }
}
