//! /metrics: what was counted since the last flush, one line of JSON. Names are Firecracker's where it has the count too.
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{Controller, Placed};
use crate::api::model::Metrics;
use crate::api::{Fault, Reply};
use crate::devices::lock;
use crate::log;

/// Firecracker's period.
const PERIOD: Duration = Duration::from_secs(60);

/// Requests by method and noun.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    outcomes: BTreeMap<(&'static str, &'static str), Outcomes>,
    deprecated: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    count: u64,
    fails: u64,
}

impl Requests {
    pub(crate) fn count(&mut self, method: &'static str, noun: &'static str, is_ok: bool) {
        let outcomes = self.outcomes.entry((method, noun)).or_default();
        outcomes.count += 1;
        outcomes.fails += u64::from(!is_ok);
    }

    pub(crate) fn count_deprecated(&mut self) {
        self.deprecated += 1;
    }

    /// `{"put_api_requests": {"drive_count": 1, "drive_fails": 0}}`, and forgets.
    fn take(&mut self) -> Map<String, Value> {
        let mut all = Map::new();
        for ((method, noun), outcomes) in std::mem::take(&mut self.outcomes) {
            let group = format!("{}_api_requests", method.to_lowercase());
            if let Value::Object(group) = all.entry(group).or_insert_with(|| json!({})) {
                group.insert(format!("{noun}_count"), outcomes.count.into());
                group.insert(format!("{noun}_fails"), outcomes.fails.into());
            }
        }
        let deprecated = std::mem::take(&mut self.deprecated);
        if deprecated > 0 {
            let group = json!({ "deprecated_http_api_calls": deprecated });
            all.insert("deprecated_api".to_owned(), group);
        }
        all
    }
}

/// How the process was started, for the first line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StartTimes {
    pub(crate) wall_us: Option<u64>,
    pub(crate) cpu_us: Option<u64>,
}

impl Controller {
    pub(crate) fn put_metrics(&mut self, metrics: Metrics) -> Result<Reply, Fault> {
        if self.metrics.is_some() {
            return Err(Fault::new(
                "Metrics error: Reinitialization of metrics not allowed.",
            ));
        }
        let path = &metrics.metrics_path;
        let file = log::open(path)
            .map_err(|error| Fault(format!("Metrics error: {error} {}", path.display())))?;
        self.metrics = Some(file);
        self.next_flush = Some(Instant::now() + PERIOD);
        self.config.metrics = Some(metrics);
        Ok(Reply::Done)
    }

    pub(super) fn flush_when_due(&mut self) {
        if self.next_flush.is_some_and(|at| at <= Instant::now()) {
            self.next_flush = Some(Instant::now() + PERIOD);
            // A full pipe loses a line, never the machine.
            let _ = self.flush_metrics();
        }
    }

    pub(crate) fn flush_metrics(&mut self) -> Result<Reply, Fault> {
        if self.metrics.is_none() {
            return Ok(Reply::Done);
        }
        let line = self.collect();
        if let Some(file) = &mut self.metrics {
            file.write_all(format!("{line}\n").as_bytes())
                .map_err(|error| {
                    Fault(format!(
                        "Internal VMM error: Metrics error: Failed to write metrics: {error}"
                    ))
                })?;
        }
        Ok(Reply::Done)
    }

    fn collect(&mut self) -> Value {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut line = self.requests.take();
        line.insert(
            "utc_timestamp_ms".to_owned(),
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX).into(),
        );
        let started = std::mem::take(&mut self.start_times);
        line.insert(
            "api_server".to_owned(),
            json!({
                "process_startup_time_us": started.wall_us.unwrap_or(0),
                "process_startup_time_cpu_us": started.cpu_us.unwrap_or(0),
            }),
        );
        line.insert("logger".to_owned(), self.log.take_counts());
        line.insert("latencies_us".to_owned(), json!(self.latencies_us));
        line.insert("mmds".to_owned(), {
            let counts = std::mem::take(&mut lock(&self.mmds).counts);
            serde_json::to_value(counts).unwrap_or_default()
        });
        self.collect_devices(&mut line);
        Value::Object(line)
    }

    /// Each device under its kind; those of which there can be several also under kind and id.
    fn collect_devices(&self, line: &mut Map<String, Value>) {
        let Some(machine) = &self.machine else {
            return;
        };
        line.insert("vcpu".to_owned(), machine.bus.exits.take());
        let mut uart = machine.bus.uart.take();
        if let (Value::Object(uart), Some(output)) = (&mut uart, &self.serial_output) {
            let (limited, lost) = output.take_lost();
            uart.insert("rate_limiter_dropped_bytes".to_owned(), limited.into());
            uart.insert("missed_write_count".to_owned(), lost.into());
        }
        line.insert("uart".to_owned(), uart);
        for (placed, transport) in self.placed.iter().zip(&machine.bus.virtio) {
            let Some(counts) = lock(transport).device().metrics() else {
                continue;
            };
            let (kind, id) = match placed {
                Placed::Drive(id) => ("block", Some(id)),
                Placed::Network(id) => ("net", Some(id)),
                Placed::Vsock => ("vsock", None),
                Placed::Entropy => ("entropy", None),
                Placed::Balloon => ("balloon", None),
                Placed::Console => ("console", None),
                Placed::Pmem(id) => ("pmem", Some(id)),
                Placed::Hotplug => ("memory_hotplug", None),
            };
            add(line.entry(kind).or_insert_with(|| json!({})), &counts);
            if let Some(id) = id {
                line.insert(format!("{kind}_{id}"), counts);
            }
        }
    }
}

/// Adds numbers of the same name.
fn add(to: &mut Value, from: &Value) {
    let (Value::Object(to), Value::Object(from)) = (to, from) else {
        return;
    };
    for (name, value) in from {
        let sum = to.get(name).and_then(Value::as_u64).unwrap_or(0);
        let sum = sum.saturating_add(value.as_u64().unwrap_or(0));
        to.insert(name.clone(), sum.into());
    }
}

/// Counts that several threads make, by name.
#[derive(Debug)]
pub(crate) struct Shared<const N: usize> {
    names: [&'static str; N],
    values: [AtomicU64; N],
}

impl<const N: usize> Shared<N> {
    pub(crate) const fn new(names: [&'static str; N]) -> Shared<N> {
        Shared {
            names,
            values: [const { AtomicU64::new(0) }; N],
        }
    }

    pub(crate) fn add(&self, index: usize, amount: u64) {
        if let Some(value) = self.values.get(index) {
            value.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The counts, which begin anew.
    pub(crate) fn take(&self) -> Value {
        let pairs = self.names.iter().zip(&self.values);
        let pairs = pairs
            .map(|(name, value)| ((*name).to_owned(), value.swap(0, Ordering::Relaxed).into()));
        Value::Object(pairs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_one_kind_add_up() {
        let mut sum = json!({});
        add(&mut sum, &json!({"read": 1, "write": 2}));
        add(&mut sum, &json!({"read": 3}));
        assert_eq!(sum, json!({"read": 4, "write": 2}));
    }

    #[test]
    fn requests_are_told_once() {
        let mut requests = Requests::default();
        requests.count("PUT", "drive", true);
        requests.count("PUT", "drive", false);
        let told = json!({"put_api_requests": {"drive_count": 2, "drive_fails": 1}});
        assert_eq!(Value::Object(requests.take()), told);
        assert!(requests.take().is_empty());
    }
}
