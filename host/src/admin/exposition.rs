//! Prometheus' text format, 0.0.4. The crates made for it write OpenMetrics, where a counter's family has another name
//! than its samples, so that older scrapers and promtool do not find the two together.

use std::fmt::{Display, Write};

use crate::metrics::CallHistogram;

/// A text that grows, family by family.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The samples of one metric.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

/// Names and values.
type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Begins a family; each name is there once.
    pub(super) fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.trim().replace('\\', "\\\\").replace('\n', "\\n");
        write(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { text: &mut self.0, name }
    }

    /// All of it.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample; no two have the same labels.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, value);
    }

    /// Adds a histogram.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, times: &CallHistogram) {
        for (bound, count) in &times.at_most {
            let bound = bound.as_secs_f64().to_string();
            self.line("_bucket", &[labels, &[("le", &bound)]].concat(), count);
        }
        self.line("_bucket", &[labels, &[("le", "+Inf")]].concat(), times.sampled);
        self.line("_sum", labels, times.sum.as_secs_f64());
        self.line("_count", labels, times.sampled);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        write(self.text, format_args!("{}{suffix}", self.name));
        for (nth, (name, value)) in labels.iter().enumerate() {
            let open = if nth == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write(self.text, format_args!("{open}{name}=\"{value}\""));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        write(self.text, format_args!("{close} {value}\n"));
    }
}

fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn values_and_help_cannot_break_out_of_their_line() {
        let mut text = Exposition::default();
        let mut family = text.family("conet_x", Kind::Gauge, " one\\\ntwo");
        family.sample(&[("a", "\"} 1\nforged 2\\"), ("b", "")], 1.5);
        family.sample(&[], 3);
        assert_eq!(
            text.into_text(),
            "# HELP conet_x one\\\\\\ntwo\n# TYPE conet_x gauge\nconet_x{a=\"\\\"} 1\\nforged 2\\\\\",b=\"\"} 1.5\nconet_x 3\n"
        );
    }

    #[test]
    fn a_histogram_has_buckets_sum_and_count_in_seconds() {
        let at_most = vec![(Duration::from_nanos(255), 1), (Duration::from_nanos(1023), 3)];
        let times = CallHistogram { name: "recv", at_most, sampled: 4, sum: Duration::from_micros(1500) };
        let mut text = Exposition::default();
        text.family("h", Kind::Histogram, "Times.").histogram(&[("call", times.name)], &times);
        let text = text.into_text();
        for line in [
            "# TYPE h histogram",
            "h_bucket{call=\"recv\",le=\"0.000000255\"} 1",
            "h_bucket{call=\"recv\",le=\"0.000001023\"} 3",
            "h_bucket{call=\"recv\",le=\"+Inf\"} 4",
            "h_sum{call=\"recv\"} 0.0015",
            "h_count{call=\"recv\"} 4",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
