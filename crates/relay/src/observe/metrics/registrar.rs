//! Registers families and writes them out: `# HELP` and `# TYPE` of every name from the first
//! scrape, which the registry alone leaves out while a family has no series.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Why none of this can fail.
const LITERAL: &str = "names, labels and buckets are literals, each registered once, and every \
                       test makes them all";

/// A registry that remembers what it was told.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    registry: Registry,
    families: Vec<Family>,
}

/// What is told of a name though it has no series yet.
#[derive(Debug)]
struct Family {
    name: &'static str,
    /// `# HELP` and `# TYPE`.
    head: String,
    /// Its row in the reference.
    row: String,
}

impl Registrar {
    fn add<C: Collector + Clone + 'static>(
        &mut self,
        (name, kind, help): (&'static str, &str, &str),
        made: prometheus::Result<C>,
    ) -> C {
        let made = made.expect(LITERAL);
        self.registry
            .register(Box::new(made.clone()))
            .expect(LITERAL);
        let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let described = made.desc();
        let labels = described.iter().flat_map(|one| &one.variable_labels);
        let labels: Vec<_> = labels.map(|label| format!("`{label}`")).collect();
        let labels = match labels.join(", ") {
            none if none.is_empty() => "–".to_owned(),
            some => some,
        };
        let row = format!("| `{name}` | {kind} | {labels} | {help} |\n");
        self.families.push(Family { name, head, row });
        self.families.sort_unstable_by_key(|family| family.name);
        made
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> IntCounter {
        self.add((name, "counter", help), IntCounter::new(name, help))
    }

    /// A counter that counts elsewhere already.
    pub(super) fn existing(&mut self, name: &'static str, counter: &IntCounter) {
        let help = counter.desc()[0].help.clone();
        self.add((name, "counter", &help), Ok(counter.clone()));
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        labels: &[&str],
        help: &str,
    ) -> IntCounterVec {
        let made = IntCounterVec::new(Opts::new(name, help), labels);
        self.add((name, "counter", help), made)
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Gauge {
        self.add((name, "gauge", help), Gauge::new(name, help))
    }

    pub(super) fn int_gauge(&mut self, name: &'static str, help: &str) -> IntGauge {
        self.add((name, "gauge", help), IntGauge::new(name, help))
    }

    pub(super) fn gauges(&mut self, name: &'static str, labels: &[&str], help: &str) -> GaugeVec {
        let made = GaugeVec::new(Opts::new(name, help), labels);
        self.add((name, "gauge", help), made)
    }

    pub(super) fn int_gauges(
        &mut self,
        name: &'static str,
        labels: &[&str],
        help: &str,
    ) -> IntGaugeVec {
        let made = IntGaugeVec::new(Opts::new(name, help), labels);
        self.add((name, "gauge", help), made)
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        buckets: &[f64],
        help: &str,
    ) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add((name, "histogram", help), Histogram::with_opts(options))
    }

    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        labels: &[&str],
        buckets: &[f64],
        help: &str,
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(
            (name, "histogram", help),
            HistogramVec::new(options, labels),
        )
    }

    /// CPU, memory, descriptors and threads of this process, where the system tells.
    pub(super) fn process(&mut self) {
        #[cfg(target_os = "linux")]
        self.registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect(LITERAL);
    }

    /// A table of every name, in Markdown.
    pub(super) fn reference(&self) -> String {
        let rows = self.families.iter().map(|family| family.row.as_str());
        ["| name | type | labels | meaning |\n| --- | --- | --- | --- |\n"]
            .into_iter()
            .chain(rows)
            .collect()
    }

    /// Everything in text format 0.0.4, by name.
    pub(super) fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let encoder = TextEncoder::new();
        let gathered = self.registry.gather();
        let mut gathered = gathered.iter().peekable();
        let mut heads = self.families.iter().peekable();
        loop {
            let head_first = match (heads.peek(), gathered.peek()) {
                (None, None) => return text,
                (Some(head), Some(family)) => head.name < family.name(),
                (head, _) => head.is_some(),
            };
            if head_first {
                text.extend(heads.next().map(|family| family.head.as_str()));
            } else if let Some(family) = gathered.next() {
                heads.next_if(|head| head.name == family.name());
                let family = std::slice::from_ref(family);
                encoder
                    .encode_utf8(family, &mut text)
                    .expect("a gathered family has a name and series, and a String takes all");
            }
        }
    }
}
