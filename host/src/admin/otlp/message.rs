//! Families of samples as OTLP has them. Names, labels and values are those of `/metrics`.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};

use super::super::families::{Families, Family, Kind, Sample, Value};
use crate::metrics::CallHistogram;

/// All of them: totals since `began`, as they are at `now`.
pub(super) fn message(
    families: &Families,
    resource: &[(String, String)],
    began: SystemTime,
    now: SystemTime,
) -> ExportMetricsServiceRequest {
    let span = Span { began: nanos(began), now: nanos(now) };
    let attributes = resource.iter().map(|(name, value)| attribute(name, value)).collect();
    let scope = InstrumentationScope {
        name: "conet".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    let metrics = families.iter().map(|family| span.metric(family)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }];
    let resource = Some(Resource { attributes, ..Default::default() });
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..Default::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

/// The time that totals are over.
struct Span {
    began: u64,
    now: u64,
}

impl Span {
    fn metric(&self, family: &Family) -> Metric {
        let Family { name, kind, help, samples } = family;
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let data = match kind {
            Kind::Gauge => Data::Gauge(Gauge { data_points: self.numbers(samples) }),
            Kind::Counter => Data::Sum(Sum {
                data_points: self.numbers(samples),
                aggregation_temporality,
                is_monotonic: true,
            }),
            Kind::Histogram => {
                let data_points = samples.iter().filter_map(|sample| self.histogram(sample)).collect();
                Data::Histogram(Histogram { data_points, aggregation_temporality })
            }
        };
        Metric {
            name: name.clone(),
            description: help.clone(),
            unit: unit(name).to_owned(),
            data: Some(data),
            ..Default::default()
        }
    }

    fn numbers(&self, samples: &[Sample]) -> Vec<NumberDataPoint> {
        let number = |sample: &Sample| {
            let value = match &sample.value {
                // Of limits that are none.
                Value::Int(value) => {
                    number_data_point::Value::AsInt(i64::try_from(*value).unwrap_or(i64::MAX))
                }
                Value::Float(value) => number_data_point::Value::AsDouble(*value),
                Value::Histogram(_) => return None,
            };
            Some(NumberDataPoint {
                attributes: attributes(sample),
                start_time_unix_nano: self.began,
                time_unix_nano: self.now,
                value: Some(value),
                ..Default::default()
            })
        };
        samples.iter().filter_map(number).collect()
    }

    fn histogram(&self, sample: &Sample) -> Option<HistogramDataPoint> {
        let Value::Histogram(CallHistogram { at_most, sampled, sum, .. }) = &sample.value else {
            return None;
        };
        // Of each bucket alone, the last one without a bound.
        let totals = at_most.iter().map(|(_, count)| *count).chain([*sampled]);
        let before = [0].into_iter().chain(at_most.iter().map(|(_, count)| *count));
        Some(HistogramDataPoint {
            attributes: attributes(sample),
            start_time_unix_nano: self.began,
            time_unix_nano: self.now,
            count: *sampled,
            sum: Some(sum.as_secs_f64()),
            bucket_counts: totals.zip(before).map(|(total, before)| total.saturating_sub(before)).collect(),
            explicit_bounds: at_most.iter().map(|(bound, _)| bound.as_secs_f64()).collect(),
            ..Default::default()
        })
    }
}

fn attributes(sample: &Sample) -> Vec<KeyValue> {
    sample.labels.iter().map(|(name, value)| attribute(name, value)).collect()
}

fn attribute(name: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: name.to_owned(), value: Some(value), ..Default::default() }
}

/// As UCUM writes it.
fn unit(name: &str) -> &'static str {
    let unit = name.split('_').find_map(|word| match word {
        "seconds" => Some("s"),
        "bytes" => Some("By"),
        _ => None,
    });
    unit.unwrap_or_default()
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
