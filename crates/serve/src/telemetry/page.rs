//! The metrics page in OTLP's shape: both ways out say the same, under the same names.
//!
//! Reads what prometheus-client writes, and nothing more. A line that it does not understand is left out.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
        metric::Data, number_data_point,
    },
};

/// A label's name and value, in the page's order.
type Labels = Vec<(String, String)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric's lines.
struct Block {
    name: String,
    help: String,
    kind: Kind,
    numbers: Vec<(Labels, f64)>,
    histograms: BTreeMap<Labels, Buckets>,
}

/// As the page has them: each count includes those before it.
#[derive(Default)]
struct Buckets {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

/// The page's metrics. `began` and `now` are nanoseconds since 1970.
pub(super) fn read(page: &str, began: u64, now: u64) -> Vec<Metric> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut help = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help =
                rest.split_once(' ').map_or("", |(_, help)| help).trim_end_matches('.').to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { continue };
            let kind = match kind {
                "counter" => Kind::Counter,
                "gauge" => Kind::Gauge,
                "histogram" => Kind::Histogram,
                _ => continue,
            };
            blocks.push(Block {
                name: name.to_owned(),
                help: std::mem::take(&mut help),
                kind,
                numbers: Vec::new(),
                histograms: BTreeMap::new(),
            });
        } else if let Some(block) = blocks.last_mut()
            && let Some((name, labels, value)) = sample(line)
        {
            block.add(name, labels, value);
        }
    }
    blocks.into_iter().filter_map(|block| block.into_metric(began, now)).collect()
}

/// `name{label="value",…} number`
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, number) = match rest.strip_prefix('{') {
        Some(rest) => {
            let (labels, number) = rest.rsplit_once("} ")?;
            (read_labels(labels)?, number)
        }
        None => (Labels::new(), rest.trim_start()),
    };
    Some((name, labels, number.parse().ok()?))
}

fn read_labels(text: &str) -> Option<Labels> {
    let mut labels = Labels::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        // Values are names that the program knows: no quotation marks are in them.
        let (value, after) = after.split_once('"')?;
        labels.push((name.to_owned(), value.to_owned()));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(labels)
}

impl Block {
    fn add(&mut self, name: &str, mut labels: Labels, value: f64) {
        let Some(suffix) = name.strip_prefix(self.name.as_str()) else { return };
        match (self.kind, suffix) {
            (Kind::Counter, "_total") | (Kind::Gauge, "") => self.numbers.push((labels, value)),
            (Kind::Histogram, "_sum") => self.histograms.entry(labels).or_default().sum = value,
            (Kind::Histogram, "_count") => {
                self.histograms.entry(labels).or_default().count = value as u64;
            }
            (Kind::Histogram, "_bucket") => {
                let Some(place) = labels.iter().position(|(name, _)| name == "le") else { return };
                let (_, bound) = labels.remove(place);
                let buckets = self.histograms.entry(labels).or_default();
                buckets.counts.push(value as u64);
                if bound != "+Inf" {
                    buckets.bounds.extend(bound.parse::<f64>());
                }
            }
            (Kind::Counter | Kind::Gauge | Kind::Histogram, _) => {}
        }
    }

    fn into_metric(self, began: u64, now: u64) -> Option<Metric> {
        let Self { name, help, kind, numbers, histograms } = self;
        if numbers.is_empty() && histograms.is_empty() {
            return None;
        }
        let point = |(labels, value): (Labels, f64)| NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: began,
            time_unix_nano: now,
            value: Some(number_data_point::Value::AsDouble(value)),
            ..NumberDataPoint::default()
        };
        let temporality = AggregationTemporality::Cumulative.into();
        let data = match kind {
            Kind::Counter => Data::Sum(Sum {
                data_points: numbers.into_iter().map(point).collect(),
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
            Kind::Gauge => {
                Data::Gauge(Gauge { data_points: numbers.into_iter().map(point).collect() })
            }
            Kind::Histogram => Data::Histogram(Histogram {
                data_points: histograms
                    .into_iter()
                    .map(|(labels, buckets)| buckets.into_point(labels, began, now))
                    .collect(),
                aggregation_temporality: temporality,
            }),
        };
        let unit = if name.ends_with("_seconds") { "s" } else { "" };
        Some(Metric {
            name,
            description: help,
            unit: unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        })
    }
}

impl Buckets {
    fn into_point(self, labels: Labels, began: u64, now: u64) -> HistogramDataPoint {
        let mut before = 0;
        let own = self.counts.into_iter().map(|count| {
            let own = count.saturating_sub(before);
            before = count;
            own
        });
        HistogramDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: began,
            time_unix_nano: now,
            count: self.count,
            sum: Some(self.sum),
            bucket_counts: own.collect(),
            explicit_bounds: self.bounds,
            ..HistogramDataPoint::default()
        }
    }
}

fn attributes(labels: Labels) -> Vec<KeyValue> {
    labels
        .into_iter()
        .map(|(key, value)| KeyValue {
            key,
            value: Some(AnyValue { value: Some(Value::StringValue(value)) }),
            ..KeyValue::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn the_page_and_otlp_say_the_same() {
        let metrics = Metrics::default();
        let [yes, no] = metrics.counters("answers", "Answers", "answer", ["yes", "no"]);
        yes.inc_by(3);
        no.inc();
        metrics.read_gauge("age_seconds", "How old it is", || Some(1.5));
        let seconds = metrics.histogram("wait_seconds", "Waits");
        for wait in [0.000_07, 0.000_07, 0.2, 60.0] {
            seconds.observe(wait);
        }
        let found = read(&metrics.page(), 1, 2);
        let by_name = |name: &str| {
            let metric = found.iter().find(|metric| metric.name == name);
            metric.unwrap_or_else(|| panic!("{name} is not in {found:?}")).clone()
        };

        let answers = by_name("countersign_answers");
        assert_eq!(answers.description, "Answers");
        let Some(Data::Sum(sum)) = answers.data else { panic!("{answers:?}") };
        assert!(sum.is_monotonic);
        let mut rows: Vec<(String, f64)> = sum.data_points.iter().map(row).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(rows, [("answer=no".to_owned(), 1.0), ("answer=yes".to_owned(), 3.0)]);

        let Some(Data::Gauge(gauge)) = by_name("countersign_age_seconds").data else { panic!() };
        assert_eq!(gauge.data_points.iter().map(row).collect::<Vec<_>>(), [(String::new(), 1.5)]);

        let wait = by_name("countersign_wait_seconds");
        assert_eq!(wait.unit, "s");
        let Some(Data::Histogram(histogram)) = wait.data else { panic!() };
        let [point] = histogram.data_points.as_slice() else { panic!() };
        assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (4, 4));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!(point.bucket_counts.last(), Some(&1));
    }

    fn row(point: &NumberDataPoint) -> (String, f64) {
        let labels = point.attributes.iter().map(|own| {
            let Some(AnyValue { value: Some(Value::StringValue(value)) }) = &own.value else {
                panic!("{own:?}");
            };
            format!("{}={value}", own.key)
        });
        let Some(number_data_point::Value::AsDouble(value)) = point.value else {
            panic!("{point:?}");
        };
        (labels.collect::<Vec<_>>().join(","), value)
    }
}
