//! Prometheus' text format, read strictly: what promtool and scrapers may refuse fails here.

use std::collections::{BTreeMap, HashSet};

/// All samples of a text.
#[derive(Debug)]
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Reads a text; panics with what is wrong in it.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut samples = BTreeMap::new();
        let mut families = HashSet::new();
        // The family that samples belong to now, and its kind.
        let mut now = ("", "");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, about) = help.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(!about.trim().is_empty() && is_name(name), "{line}");
                assert!(families.insert(name), "{name} is there twice");
                let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
                let (named, kind) = kind.unwrap_or_else(|| panic!("no type after {line}"));
                assert_eq!(named, name);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{name}: {kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                now = (name, kind);
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let name = check_series(series);
            let suffix = name.strip_prefix(now.0).unwrap_or_else(|| panic!("{line} is not of {}", now.0));
            let is_of = match now.1 {
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                _ => suffix.is_empty(),
            };
            assert!(is_of, "{line} is not of {}", now.0);
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(value.is_finite() && (now.1 != "counter" || value >= 0.0), "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} is there twice");
        }
        let samples = Self(samples);
        samples.check_histograms();
        samples
    }

    /// The value of a series, named as in the text.
    #[track_caller]
    pub fn of(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// All series and their values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(series, value)| (series.as_str(), *value))
    }

    /// A bucket has what the ones before it have, and the last one all.
    fn check_histograms(&self) {
        for (series, count) in &self.0 {
            let Some((name, labels)) = series.split_once("_count{") else { continue };
            let labels = labels.trim_end_matches('}');
            let head = format!("{name}_bucket{{{labels},le=\"");
            let buckets =
                self.0.iter().filter_map(|(series, count)| Some((series.strip_prefix(&head)?, *count)));
            let bound = |text: &str| match text.trim_end_matches("\"}") {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().expect("a bound"),
            };
            let mut buckets: Vec<_> = buckets.map(|(text, count)| (bound(text), count)).collect();
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{series}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
            self.of(&format!("{name}_sum{{{labels}}}"));
        }
    }
}

/// Checks name and labels; gives the name.
fn check_series(series: &str) -> &str {
    let Some((name, labels)) = series.split_once('{') else {
        assert!(is_name(series), "{series}");
        return series;
    };
    assert!(is_name(name), "{series}");
    let mut rest = labels.strip_suffix('}').unwrap_or_else(|| panic!("{series}"));
    let mut names = HashSet::new();
    while !rest.is_empty() {
        let (label, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{series}"));
        assert!(is_name(label) && !label.contains(':') && names.insert(label), "{series}");
        let end = value.find('"').unwrap_or_else(|| panic!("{series}"));
        assert!(!value[..end].contains('\\'), "no value of ours has an escape: {series}");
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    name
}

fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}
