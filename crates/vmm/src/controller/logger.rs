//! /logger and /metrics.
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::Controller;
use crate::api::model::{Logger, Metrics};
use crate::api::{Fault, Reply};
use crate::log::{self, Level};

impl Controller {
    pub(crate) fn put_logger(&mut self, logger: Logger) -> Result<Reply, Fault> {
        let level = match &logger.level {
            Some(word) => Some(
                Level::parse(word).ok_or_else(|| Fault(format!("Invalid log level {word:?}.")))?,
            ),
            None => None,
        };
        let open = |path: &std::path::PathBuf| {
            log::open(path)
                .map_err(|error| Fault(format!("Cannot open the log {}: {error}", path.display())))
        };
        let file = logger.log_path.as_ref().map(open).transpose()?;
        self.log.change(|settings| {
            settings.level = level.unwrap_or(settings.level);
            settings.shows_level = logger.show_level.unwrap_or(settings.shows_level);
            if file.is_some() {
                settings.file = file;
            }
        });
        self.config.logger = Some(logger);
        Ok(Reply::Done)
    }

    pub(crate) fn put_metrics(&mut self, metrics: Metrics) -> Result<Reply, Fault> {
        if self.metrics.is_some() {
            return Err(Fault::new("The metrics system was already initialized."));
        }
        let path = &metrics.metrics_path;
        let file = log::open(path).map_err(|error| {
            Fault(format!(
                "Cannot open the metrics {}: {error}",
                path.display()
            ))
        })?;
        self.metrics = Some(file);
        self.config.metrics = Some(metrics);
        Ok(Reply::Done)
    }

    /// One line of JSON per flush.
    pub(super) fn flush_metrics(&mut self) -> Result<Reply, Fault> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = json!({
            "utc_timestamp_ms": u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            "api_server": { "answered": self.requests.answered, "refused": self.requests.refused },
        });
        if let Some(file) = &mut self.metrics {
            file.write_all(format!("{line}\n").as_bytes())
                .map_err(|error| Fault(format!("Cannot write the metrics: {error}")))?;
        }
        Ok(Reply::Done)
    }
}
