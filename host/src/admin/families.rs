//! Metrics as they are told in whatever form: families of samples.

use crate::metrics::CallHistogram;

/// Families, in the order in which they are told.
#[derive(Debug, Default)]
pub(super) struct Families(Vec<Family>);

/// The samples of one metric.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One of them. No two of a family have the same labels.
#[derive(Debug)]
pub(super) struct Sample {
    /// Names and values.
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

/// What it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Int(u64),
    Float(f64),
    /// In seconds.
    Histogram(CallHistogram),
}

impl Families {
    /// Begins a family; each name is there once.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut Family {
        let (name, help) = (name.to_owned(), help.trim().to_owned());
        self.0.push(Family { name, kind, help, samples: Vec::new() });
        self.0.last_mut().expect("it has just come")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Family> {
        self.0.iter()
    }
}

impl Family {
    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: &[(&'static str, &str)], value: impl Into<Value>) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.samples.push(Sample { labels, value: value.into() });
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<&CallHistogram> for Value {
    fn from(times: &CallHistogram) -> Self {
        Value::Histogram(times.clone())
    }
}
