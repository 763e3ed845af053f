//! Prometheus' text format, 0.0.4. The crates made for it write OpenMetrics, where a counter's family has another name
//! than its samples, so that older scrapers and promtool do not find the two together.

use std::fmt::{Display, Write};

use super::families::{Families, Family, Kind, Value};
use crate::metrics::CallHistogram;

/// All of them, as text.
pub(super) fn exposition(families: &Families) -> String {
    let mut text = String::new();
    families.iter().for_each(|family| family.write(&mut text));
    text
}

/// Names and values.
type Labels<'a> = &'a [(&'static str, String)];

impl Family {
    fn write(&self, text: &mut String) {
        let Self { name, kind, help, samples } = self;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        write(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for sample in samples {
            match &sample.value {
                Value::Int(value) => line(text, name, "", &sample.labels, value),
                Value::Float(value) => line(text, name, "", &sample.labels, value),
                Value::Histogram(times) => histogram(text, name, &sample.labels, times),
            }
        }
    }
}

fn histogram(text: &mut String, name: &str, labels: Labels<'_>, times: &CallHistogram) {
    for (bound, count) in &times.at_most {
        let bound = bound.as_secs_f64().to_string();
        line(text, name, "_bucket", &[labels, &[("le", bound)]].concat(), count);
    }
    line(text, name, "_bucket", &[labels, &[("le", "+Inf".to_owned())]].concat(), times.sampled);
    line(text, name, "_sum", labels, times.sum.as_secs_f64());
    line(text, name, "_count", labels, times.sampled);
}

fn line(text: &mut String, name: &str, suffix: &str, labels: Labels<'_>, value: impl Display) {
    write(text, format_args!("{name}{suffix}"));
    for (nth, (name, value)) in labels.iter().enumerate() {
        let open = if nth == 0 { '{' } else { ',' };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write(text, format_args!("{open}{name}=\"{value}\""));
    }
    let close = if labels.is_empty() { "" } else { "}" };
    write(text, format_args!("{close} {value}\n"));
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
        let mut families = Families::default();
        let family = families.family("conet_x", Kind::Gauge, " one\\\ntwo");
        family.sample(&[("a", "\"} 1\nforged 2\\"), ("b", "")], 1.5);
        family.sample(&[], 3);
        assert_eq!(
            exposition(&families),
            "# HELP conet_x one\\\\\\ntwo\n# TYPE conet_x gauge\nconet_x{a=\"\\\"} 1\\nforged 2\\\\\",b=\"\"} 1.5\nconet_x 3\n"
        );
    }

    #[test]
    fn a_histogram_has_buckets_sum_and_count_in_seconds() {
        let at_most = vec![(Duration::from_nanos(255), 1), (Duration::from_nanos(1023), 3)];
        let times = CallHistogram { name: "recv", at_most, sampled: 4, sum: Duration::from_micros(1500) };
        let mut families = Families::default();
        families.family("h", Kind::Histogram, "Times.").sample(&[("call", times.name)], &times);
        let text = exposition(&families);
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
